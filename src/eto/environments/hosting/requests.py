"""What is asked of simulators and what they answer, in this process or through a worker's pipe."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Literal

from eto import errors
from eto.environments.hosting.boundary import Begun
from eto.environments.hosting.host import Host, NoExpert
from eto.environments.hosting.java import SimulatorDied
from eto.errors import EnvironmentFailure, EtoError
from eto.protocols import Step
from eto.types import Task, Trajectory

Operation = Literal["reset", "step", "expert", "close", "quit"]


@dataclass(frozen=True, slots=True)
class Request:
    """One submit to an environment: a task for `reset` and `expert`, an action for `step`."""

    slot: int
    operation: Operation
    """`quit` ends the worker process, after the requests before."""
    task: Task | None = None
    action: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception as data."""

    error_class: str
    """A class of `eto.errors`; "" for a bug of ours, whose `problem` is a traceback."""
    problem: str
    where: str = ""
    hint: str = ""
    died: bool = False
    """The process behind several environments is gone, and all their episodes with it."""

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        if not isinstance(error, EtoError):
            return cls("", "".join(traceback.format_exception(error)))
        error_class = "EnvironmentFailure" if isinstance(error, EnvironmentFailure) else type(error).__name__
        return cls(error_class, error.problem, error.where, error.hint, isinstance(error, SimulatorDied))

    def error(self) -> Exception:
        """Inverse of `of`; a bug becomes a `RuntimeError` carrying the traceback."""
        if not self.error_class:
            return RuntimeError(f"in an environment's worker process:\n{self.problem}")
        return getattr(errors, self.error_class)(self.problem, where=self.where, hint=self.hint)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: what its kind asked for, or a fault; empty for `close`."""

    begun: Begun | None = None
    """Of a reset."""
    step: Step | None = None
    """Of a step."""
    expert: Trajectory | NoExpert | None = None
    """Of an expert: its trajectory, or why there is none."""
    fault: Fault | None = None


def answer(host: Host, request: Request) -> Reply:
    """The reply of a host in this process. Raises `EtoError`."""
    slot = request.slot
    if request.operation == "step":
        return Reply(step=host.step(slot, request.action))
    if request.operation == "reset" and request.task is not None:
        return Reply(begun=host.reset(slot, request.task))
    if request.operation == "expert" and request.task is not None:
        return Reply(expert=host.expert(slot, request.task))
    host.finish(slot)
    return Reply()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one request: what its `kind` asked for, or a failure."""

    slot: int
    operation: Operation
    begun: Begun | None = None
    """Of a reset."""
    step: Step | None = None
    """Of a step."""
    expert: Trajectory | NoExpert | None = None
    """Of an expert: its trajectory, or why there is none."""
    failure: EnvironmentFailure | None = None
    collateral: bool = False
    """The failure came from another slot's request; not to be counted as a try."""
    late: bool = False
    """The failure is a deadline that passed."""
    seconds: float = 0.0
    """How long the simulator worked on it, without waiting for other slots."""

    @property
    def observation(self) -> str | None:
        """The first observation, of a reset."""
        return self.begun.observation if self.begun else None


def failed(request: Request, problem: str | None, late: bool = False) -> Result:
    """The failure of a request, for `problem`; None for a slot that is collateral of it."""
    reason = problem or "its worker process was killed on another episode's account"
    timed = request.operation in ("step", "reset") and late
    hint = f"make it answer sooner, or raise environment.{request.operation}_seconds" if timed else ""
    failure = EnvironmentFailure(reason, where=f"in {request.operation}", hint=hint)
    return Result(request.slot, request.operation, failure=failure, collateral=problem is None, late=late)
