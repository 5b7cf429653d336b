"""An engine with a function in place of a model: for tests, experts and baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from eto.engines.actor import Actor
from eto.engines.turns import others_first
from eto.errors import InputError
from eto.protocols import Completion, EngineFault, Finish, Sampling
from eto.types import Message, Role, Turn

Respond = Callable[[Sequence[Message]], str]
"""(the conversation so far, ending on a user message) -> the next action."""
CONTEXT = 1_000_000
END = 0


class TextRenderer:
    """Ids for whole texts: one for the role and one for the text of each message, and `END` after each.

    Ids of texts are given in the order in which they are first met, so they mean nothing to another one.
    """

    fingerprint: str | None = None
    stops = (END,)

    def __init__(self) -> None:
        self._texts = [""]  # of END
        self._ids: dict[str, int] = {}

    def talk(self, messages: Sequence[Message]) -> TextTalk:
        """A conversation that continues turn by turn."""
        return TextTalk(self, messages)

    def text(self, action_ids: Sequence[int]) -> str:
        """The texts of these ids, without what ends them."""
        return "".join(self._texts[index] for index in action_ids)

    def id_of(self, text: str) -> int:
        """The id of a text."""
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]

    def message_ids(self, message: Message) -> list[int]:
        """Ids of a whole message."""
        return [self.id_of(message.role), self.id_of(message.content), END]

    def opening(self) -> list[int]:
        """Ids after which the agent writes."""
        return [self.id_of("assistant")]

    def messages(self, ids: Sequence[int]) -> tuple[Message, ...]:
        """The conversation that ends on `opening`."""
        parts: list[list[int]] = [[]]
        for index in ids[:-1]:
            if index == END:
                parts.append([])
            else:
                parts[-1].append(index)
        said = ((cast(Role, self._texts[role]), self.text(texts)) for role, *texts in filter(None, parts))
        return tuple(Message(role, text) for role, text in said)


class TextTalk:
    """A conversation of a `TextRenderer`; as `eto.tokens.talk.Talk`, it only ever appends."""

    def __init__(self, renderer: TextRenderer, messages: Sequence[Message]) -> None:
        self._renderer = renderer
        self._system = [message for message in messages if message.role == "system"]
        self.ids = [index for message in messages for index in renderer.message_ids(message)]
        self.ids += renderer.opening()

    def sampled(self, action: Sequence[int]) -> None:
        """The agent has written these ids."""

    def written(self, turn: Turn) -> list[int]:
        """Ids with which the agent writes `turn`."""
        return [self._renderer.id_of(turn.action), END]

    def go_on(self, action: Sequence[int], turn: Turn) -> tuple[bool, list[int]]:
        """(True, ids that follow): the end of an action that was cut, and what came back; (False, all ids
        again) where `turn` has the next one begin afresh."""
        answers = turn.answers or (Message("user", turn.observation),)
        if turn.afresh:
            return False, TextTalk(self._renderer, [*self._system, *answers]).ids
        ids = [] if action and action[-1] == END else [END]
        ids += [index for answer in answers for index in self._renderer.message_ids(answer)]
        return True, ids + self._renderer.opening()


class ScriptedEngine:
    """Answers with `respond`, with probability 1; temperature and seed do nothing."""

    max_context = CONTEXT

    def __init__(self, respond: Respond, renderer: TextRenderer | None = None) -> None:
        """`renderer`: that of the actors who use it."""
        self.renderer = renderer or TextRenderer()
        self.version = 0
        self._respond, self._awake = respond, True

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion | EngineFault:
        """The answer of `respond` to the conversation. Raises `InputError` for one that is not text."""
        if not self._awake:
            return EngineFault("the engine sleeps, or is closed", retryable=False)
        version = self.version
        await others_first()
        if len(ids) >= self.max_context:
            fault = f"the prompt has {len(ids)} tokens, and the context holds {self.max_context}"
            return EngineFault(fault, retryable=False)
        action = self._respond(self.renderer.messages(ids))
        if not isinstance(action, str):
            problem = f"it answered {type(action).__name__}, not text"
            raise InputError(problem, where="scripted", hint="let its function return the action as a str")
        written: tuple[int, ...] = (self.renderer.id_of(action), END)[: sampling.max_tokens]
        if written[0] in sampling.stop:
            written = written[:1]
        finish: Finish = "stop" if written[-1] in sampling.stop else "length"
        return Completion(written, (0.0,) * len(written), finish, version)

    async def load(self, directory: Path) -> None:
        """The same function as before: it has no weights."""
        self.version, self._awake = self.version + 1, True

    async def sleep(self) -> None:
        """No more answers until the next `load`."""
        self._awake = False

    async def release(self, session: str) -> None:
        """Nothing is cached."""

    async def close(self) -> None:
        """No more answers."""
        self._awake = False


def scripted_actor(respond: Respond, name: str = "scripted") -> Actor:
    """An actor that says what `respond` tells it to; its trajectories are text alone."""
    engine = ScriptedEngine(respond)
    return Actor(engine, engine.renderer, name)
