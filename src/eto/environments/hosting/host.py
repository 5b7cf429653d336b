"""The simulators of a suite in one process, its experts verified: what a worker does, without the pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from eto.environments.hosting.boundary import (
    Begun,
    as_input_error,
    checked_actions,
    checked_environment,
    checked_messages,
    checked_step,
    checked_text,
    checked_turns,
    user_code,
)
from eto.errors import EnvironmentFailure, EtoError, InputError
from eto.protocols import Environment, Step, TaskSuite
from eto.types import Message, StopReason, Task, Trajectory, Turn


def build_suite(spec: tuple[str, dict[str, Any]] | list[Any]) -> TaskSuite:
    """The suite that `TaskSuite.spec` describes. Raises `InputError` where it cannot be imported."""
    name, options = spec
    module, _, attribute = name.partition(":")
    hint = "define the suite at the top of an importable module, or use workers=0"
    with as_input_error(name, hint):
        try:
            made: Any = import_module(module)
            for part in attribute.split("."):
                made = getattr(made, part)
        except (ImportError, AttributeError) as error:
            raise InputError(f"a worker process cannot import it: {error}", where=name, hint=hint) from error
    with as_input_error(name, "spec() returns the keyword arguments that make the same suite again"):
        return made(**options)


class Host:
    """The simulators of a suite by slot, made when first needed.

    Whatever the suite's code raises or wrongly answers is an `EnvironmentFailure`.
    """

    def __init__(self, suite: TaskSuite) -> None:
        self._suite = suite
        self._environments: dict[int, Environment] = {}

    def reset(self, slot: int, task: Task) -> Begun:
        """Start an episode: its first observation, prompt and turn cap."""
        with self._environment(slot) as environment:
            return begin(self._suite, environment, task)

    def step(self, slot: int, action: str) -> Step:
        with self._environment(slot) as environment:
            return take_step(environment, action)

    def expert(self, slot: int, task: Task) -> Trajectory | NoExpert:
        with self._environment(slot) as environment:
            return verified_expert(self._suite, environment, task)

    def finish(self, slot: int) -> None:
        """Close the simulator of a slot, and again, which must be safe."""
        environment = self._environments.pop(slot, None)
        if environment is None:
            return
        for _ in range(2):
            with user_code("close"):
                environment.close()

    def close(self) -> None:
        """Close all simulators; one that fails in this leaves what it holds to the end of the process."""
        environments, self._environments = list(self._environments.values()), {}
        for environment in environments:
            with suppress(EtoError), user_code("close"):
                environment.close()

    @contextmanager
    def _environment(self, slot: int) -> Iterator[Environment]:
        """The simulator of a slot; given up after a failure, for its state is unknown."""
        if slot not in self._environments:
            with user_code("environment"):
                made = self._suite.environment()
            self._environments[slot] = checked_environment(made)
        try:
            yield self._environments[slot]
        except EtoError:
            environment = self._environments.pop(slot)
            with suppress(EtoError), user_code("close"):
                environment.close()
            raise


def begin(suite: TaskSuite, environment: Environment, task: Task) -> Begun:
    """A fresh reset with the suite's prompt and turn cap. Raises `EnvironmentFailure`."""
    with user_code("reset"):
        answer = environment.reset(task)
    if isinstance(answer, tuple):
        problem = f"reset returned a tuple of {len(answer)}, not text"
        raise EnvironmentFailure(problem, hint="return the observation alone")
    observation = checked_text(answer, "the observation of reset")
    with user_code("messages"):
        messages = suite.messages(task, observation)
    with user_code("max_turns"):
        turns = suite.max_turns(task)
    return Begun(observation, checked_messages(messages), checked_turns(turns))


def take_step(environment: Environment, action: str) -> Step:
    """One step, with plain values. Raises `EnvironmentFailure`."""
    with user_code("step"):
        answer = environment.step(action)
    return checked_step(answer)


@dataclass(frozen=True, slots=True)
class NoExpert:
    """Why a task has no expert trajectory."""

    reason: Literal["none", "unsolved", "failed"]
    """`none`: the suite has no actions for it; `unsolved`: they do not solve it; `failed`: the
    environment failed."""
    detail: str


def verified_expert(suite: TaskSuite, environment: Environment, task: Task) -> Trajectory | NoExpert:
    """The first of the suite's experts for `task` that solves it in a replay from a fresh reset.

    Observations and rewards are those of the replay, which ends with the episode or at the agent's cap
    of turns. Where none solves it, the reason is the first one's. Raises `EnvironmentFailure`.
    """
    missing: NoExpert | None = None
    for actions in _expert_candidates(suite, environment, task):
        outcome = _replayed_expert(suite, environment, task, actions)
        if isinstance(outcome, Trajectory):
            return outcome
        missing = missing or outcome
    return missing or NoExpert("none", "the suite has no expert for it")


def _expert_candidates(suite: TaskSuite, environment: Environment, task: Task) -> Iterator[list[str]]:
    """All that a suite has to offer as an expert: its `expert_candidates`, or its `expert_actions`."""
    several = getattr(suite, "expert_candidates", None)
    if several is None:
        with user_code("expert_actions"):
            given = suite.expert_actions(task, environment)
        if actions := checked_actions(given):
            yield actions
        return
    with user_code("expert_candidates"):
        candidates = iter(several(task, environment))
    while True:
        with user_code("expert_candidates"):
            given = next(candidates, None)
        if given is None:
            return
        if actions := checked_actions(given):
            yield actions


def _replayed_expert(
    suite: TaskSuite, environment: Environment, task: Task, actions: list[str]
) -> Trajectory | NoExpert:
    begun = begin(suite, environment, task)
    turns: list[Turn] = []
    for action in actions[: begun.max_turns]:
        step = take_step(environment, action)
        turns.append(Turn(action, step.observation, step.reward, afresh=step.afresh))
        if step.terminated or step.truncated:
            break
    if step.terminated and step.success:
        return expert_trajectory(task, begun.messages, turns, step.reward, step.score)
    if step.terminated or step.truncated:
        why = "the episode ends unsolved"
    else:
        cut = len(actions) > begun.max_turns
        why = f"the agent's cap of {begun.max_turns} turns is reached" if cut else "no end is reached"
    earned = f"{len(turns)} of its {len(actions)} actions earn {step.reward:g}"
    return NoExpert("unsolved", f"{earned}, and {why}")


def expert_trajectory(
    task: Task, messages: tuple[Message, ...], turns: list[Turn], reward: float, score: float | None
) -> Trajectory:
    """A successful expert episode."""
    return Trajectory(
        task, tuple(messages), tuple(turns), reward, True, StopReason.TERMINATED, "expert", score=score
    )
