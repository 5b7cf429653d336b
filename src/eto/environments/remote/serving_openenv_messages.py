"""What an OpenEnv server of ours is asked and answers: fields, replies, and tasks by their numbers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from eto.data.texts import brief, counted, whole
from eto.environments.remote.serving import faults
from eto.protocols import TaskSuite
from eto.types import Message, Task

Code = Literal[
    "INVALID_JSON",
    "UNKNOWN_TYPE",
    "VALIDATION_ERROR",
    "EXECUTION_ERROR",
    "CAPACITY_REACHED",
    "FACTORY_ERROR",
]
"""Those of openenv-core's `WSErrorCode` that a server of ours answers with."""
Text = Annotated[str, BeforeValidator(lambda value: whole(value) if isinstance(value, str) else value)]
"""A lone surrogate, which JSON admits, becomes U+FFFD: an agent may write one."""


class Action(BaseModel, extra="forbid"):
    metadata: dict[str, Any] = Field({}, description="Ignored")
    message: Text = Field(description="The agent's action as text")


class Observation(BaseModel, extra="forbid"):
    done: bool = Field(False, description="Whether the episode has ended, by its task or at a limit")
    reward: float | None = Field(None, description="The episode's, in [0, 1], with the step that ends it")
    metadata: dict[str, Any] = Field({}, description="Of a step: success, score, reward so far and more")
    text: str = Field(description="What the agent reads")


class FirstObservation(Observation):
    metadata: dict[str, Any] = Field({}, description="The task: its id, kind, split, seed and cap of turns")
    messages: list[dict[str, str]] = Field(description="The prompt, instruction and `text` included")


class State(BaseModel, extra="allow"):
    episode_id: str | None = Field(None, description="As given to reset, or made by the server")
    step_count: int = Field(0, ge=0)
    task_id: str | None = None
    reward: float = Field(0.0, description="What the episode is worth had it ended here, in [0, 1]")
    done: bool = False


class Reset(BaseModel, extra="ignore"):
    """The parameters of a reset; others are ignored, as by openenv-core."""

    seed: int | None = None
    index: int | None = None
    task_id: Text | None = None
    split: Text | None = None
    episode_id: Text | None = Field(None, max_length=255)


class Refusal(Exception):
    """A request with a field that cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.errors: list[dict[str, Any]] = [{"type": "value_error", "loc": [field], "msg": message}]


class Tasks:
    """The tasks of a split: seed n is the n-th, from 0."""

    def __init__(self, tasks: Sequence[Task], split: str) -> None:
        self._tasks, self.split = tasks, split
        self._number = {task.id: number for number, task in enumerate(tasks)}
        self._next = 0
        self._lock = threading.Lock()

    def choose(self, reset: Reset) -> tuple[int, Task]:
        """The task by its id, else by index or seed, else the next one. Raises `Refusal`."""
        self.check(reset.split)
        if reset.task_id is not None:
            number = self._number.get(reset.task_id)
            if number is None:
                raise Refusal("task_id", f"task_id {brief(reset.task_id)}: no task of split {self.split}")
        elif reset.index is not None:
            number = self.within("index", reset.index)
        elif reset.seed is not None:
            number = self.within("seed", reset.seed)
        else:
            with self._lock:
                number, self._next = self._next, (self._next + 1) % len(self._tasks)
        return number, self._tasks[number]

    def described(self, number: int) -> dict[str, Any]:
        """A task without its payload, which may hold its solution."""
        task = self._tasks[number]
        return {"task_id": task.id, "kind": task.kind, "split": self.split, "index": number, "seed": number}

    def check(self, split: str | None) -> None:
        """Raises `Refusal` for another split than the one there is."""
        if split not in (None, self.split):
            raise Refusal("split", f"split {brief(split)}: this server serves {self.split}")

    def within(self, name: str, number: int) -> int:
        """`number`, which the client calls `name`. Raises `Refusal` where no task has it."""
        if not 0 <= number < len(self):
            there = f"split {self.split} has {counted(len(self), 'task')}, from 0 to {len(self) - 1}"
            raise Refusal(name, f"{name} {brief(number)}: {there}")
        return number

    def __len__(self) -> int:
        return len(self._tasks)


def observed(observation: Observation) -> dict[str, Any]:
    """An observation as openenv-core sends it: `metadata` twice, `reward` and `done` beside the fields."""
    fields = observation.model_dump()
    frame = {name: fields.pop(name) for name in ("reward", "done")}
    return {"observation": fields, **frame, "metadata": fields["metadata"]}


def refused(code: Code, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "data": {"message": whole(message), "code": code, **more}}


def invalid(error: ValidationError | Refusal) -> dict[str, Any]:
    errors = faults(error.errors() if isinstance(error, ValidationError) else error.errors)
    placed = [(".".join(str(part) for part in each["loc"]), each["msg"]) for each in errors]
    said = "; ".join(what if what.startswith(f"{where} ") else f"{where}: {what}" for where, what in placed)
    return refused("VALIDATION_ERROR", f"Invalid message: {said}", errors=errors)


def prompt(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def schemas() -> dict[str, Any]:
    return {
        "action": Action.model_json_schema(),
        "observation": Observation.model_json_schema(),
        "reset_observation": FirstObservation.model_json_schema(),
        "state": State.model_json_schema(),
    }


def about(suite: TaskSuite, tasks: Tasks) -> dict[str, Any]:
    """`/metadata`."""
    described = f"{counted(len(tasks), 'task')} of split {tasks.split}, by seeds from 0 to {len(tasks) - 1}"
    return {
        "name": suite.name,
        "description": described,
        "readme_content": None,
        "version": None,
        "author": None,
        "documentation_url": None,
    }
