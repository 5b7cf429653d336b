"""Errors a user can cause or fix. Each says what is wrong, where, and what to do.

The command line prints them as one line and exits with `exit_code`; every other
exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

from typing import Any


class EtoError(Exception):
    """Base of all errors meant for the user."""

    exit_code = 2

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        self.problem, self.where, self.hint = problem, where, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.problem, self.where, self.hint)


def _rebuild(error_type: type[EtoError], problem: str, where: str, hint: str) -> EtoError:
    return error_type(problem, where=where, hint=hint)


class InputError(EtoError):
    """A file, field, name or value given by the user is wrong."""


class NothingLeft(InputError):
    """Cut to the model's context, a trajectory has no turn to train on."""


class PromptTooLong(InputError):
    """The prompt of one episode leaves no room for an action in the model's context."""


class RecipeError(InputError):
    """A recipe has an unknown key, a wrong type, or values that do not go together."""


class MissingRequirement(EtoError):
    """Something outside Python is missing: Java, a package, disk space, memory."""


class RunConflict(EtoError):
    """A run directory is in use, or belongs to another recipe."""


class EnvironmentFailure(EtoError):
    """The simulator crashed, hung or broke its contract. Not the agent's doing."""

    exit_code = 3


class EngineFailure(EtoError):
    """The model's engine failed. Not the agent's doing."""

    exit_code = 3
