"""A policy that says what a function tells it to: for tests, experts and baselines without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from eto.errors import InputError
from eto.protocols import Reply, ReplyEnd
from eto.types import Message

Respond = Callable[[Sequence[Message]], str]
"""(the conversation so far, ending on a user message) -> the next action."""


@dataclass(eq=False, slots=True)
class Script:
    """One conversation."""

    messages: list[Message] = field(default_factory=list)


class ScriptedPolicy:
    """Answers every conversation with `respond`; text only, so it has no token ids.

    Temperature and seed do nothing: the actions are `respond`'s own.
    """

    tokenizer_id: str | None = None

    def __init__(self, respond: Respond, *, name: str = "scripted") -> None:
        self.name = name
        self._respond = respond
        self._submitted: list[Script] = []

    def open(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> Script:
        """A conversation that starts with `messages`."""
        return Script(list(messages))

    def submit(self, session: Script, observation: str | None = None) -> None:
        """Ask for the next action, after `observation` if there is one."""
        if observation is not None:
            session.messages.append(Message("user", observation))
        self._submitted.append(session)

    def poll(self) -> list[Reply]:
        """The actions of all submitted conversations. Raises `InputError` for one that is no text."""
        submitted, self._submitted = self._submitted, []
        replies = []
        for session in submitted:
            action = self._respond(tuple(session.messages))
            if not isinstance(action, str):
                problem = f"it answered {type(action).__name__}, not text"
                mend = "let its function return the action as a str"
                raise InputError(problem, where=f"policy {self.name}", mend=mend)
            session.messages.append(Message("assistant", action))
            replies.append(Reply(session, action, None, ReplyEnd.END_OF_TURN))
        return replies

    def release(self, session: Script) -> None:
        """Forget a conversation, also one that still waits for its action."""
        self._submitted = [s for s in self._submitted if s is not session]
