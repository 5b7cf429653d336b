"""What an episode needs of an agent: an engine, and what lays conversations out for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

from eto.errors import PromptTooLong
from eto.protocols import Completion, Engine, EngineFault, Sampling
from eto.types import Message, Turn


class ActorRenderer(Protocol):
    """What an actor needs of a renderer; see `eto.tokens.rendering.Renderer`."""

    @property
    def fingerprint(self) -> str | None:
        """Of the tokenizer; None where its ids mean nothing elsewhere."""
        ...

    @property
    def stops(self) -> tuple[int, ...]:
        """Ids that end an action."""
        ...

    def talk(self, messages: Sequence[Message]) -> Any:
        """A conversation that continues turn by turn; see `eto.tokens.talk.Talk`."""
        ...

    def text(self, action_ids: Sequence[int]) -> str:
        """The action that these ids are."""
        ...


class Choice(Protocol):
    """How an actor takes one of several actions that it has sampled."""

    @property
    def candidates(self) -> int:
        """Actions that are sampled in each turn."""
        ...

    def pick(self, messages: Sequence[Message], turns: Sequence[Turn], actions: Sequence[str]) -> int:
        """The index of the action to take, after the prompt `messages` and `turns`; no two of `actions` have
        the same token ids."""
        ...


def mark(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """A prompt with `text` as a last paragraph of its last user message."""
    *before, last = messages
    return (*before, replace(last, content=f"{last.content}\n\n{text}"))


def unmark(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """A prompt without the last paragraph `text` that `mark` gave it; as it is where it has none."""
    *before, last = messages
    return (*before, replace(last, content=last.content.removesuffix(f"\n\n{text}")))


@dataclass(frozen=True, slots=True)
class Actor:
    """An agent that can act."""

    engine: Engine
    renderer: ActorRenderer
    name: str
    """Stands as `source` in the trajectories it plays."""
    prompt: str = ""
    """What its prompts end with, in addition to what the suite says."""
    choice: Choice | None = None
    """How it takes one of several actions; None: it samples one."""

    @property
    def tokenizer_id(self) -> str | None:
        """Fingerprint of the tokenizer behind the ids of its turns; None: its turns are text alone."""
        return self.renderer.fingerprint

    def prompted(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """A suite's prompt as this actor gets it."""
        return mark(messages, self.prompt) if self.prompt else messages

    def told(self, text: str) -> Actor:
        """This actor with `text` behind what its prompts end with already."""
        return replace(self, prompt="\n\n".join(part for part in (self.prompt, text) if part))

    def sampling(self, max_tokens: int, temperature: float = 0.0, seed: int = 0) -> Sampling:
        """How its actions are sampled."""
        return Sampling(max_tokens, temperature, seed, self.renderer.stops)

    def dialogue(self, messages: Sequence[Message], turns: Sequence[Turn] = (), *, room: int) -> Dialogue:
        """A conversation that begins with `messages` and `turns`, whose `action_ids`, where there are any,
        belong to this actor's tokenizer. `room`: tokens to keep free for an action.

        Raises `PromptTooLong` where `messages` alone leave less.
        """
        return Dialogue(self, messages, turns, room)


class Dialogue:
    """One conversation of an actor. An asynchronous context manager, which frees what is cached for it."""

    def __init__(self, actor: Actor, messages: Sequence[Message], turns: Sequence[Turn], room: int) -> None:
        self._actor, self._room = actor, room
        self._session = uuid4().hex
        self._talk = actor.renderer.talk(messages)
        self.ids: list[int] = list(self._talk.ids)
        """All tokens so far."""
        if (excess := len(self.ids) + room - actor.engine.max_context) > 0:
            raise PromptTooLong(
                f"the prompt takes {len(self.ids)} tokens and an action up to {room}: "
                f"{excess} more than the context of {actor.engine.max_context} holds",
                where="model.max_context",
                hint="use a model with a longer context, or shorten the environment's instruction",
            )
        self._action: list[int] = []
        for turn in turns:
            self._recall(turn)
            self.hear(turn)

    async def __aenter__(self) -> Dialogue:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Free what is cached for it."""
        await self._actor.engine.release(self._session)

    @property
    def full(self) -> bool:
        """Whether the context has no room for another action."""
        return len(self.ids) + self._room > self._actor.engine.max_context

    async def act(self, sampling: Sampling, retries: int = 0) -> Turn | EngineFault:
        """The next action, as a turn whose observation is still to come. A fault that may pass is retried."""
        done = await self._ask(sampling, retries)
        return done if isinstance(done, EngineFault) else self._take(done)

    async def act_best(
        self, samplings: Sequence[Sampling], choose: Callable[[Sequence[str]], int], retries: int = 0
    ) -> Turn | EngineFault:
        """As `act`, with one of the actions that `samplings` give: that of the index which `choose` returns.
        Actions of the same ids are offered once."""
        offered: dict[tuple[int, ...], Completion] = {}
        sampled = 0
        for sampling in samplings:
            done = await self._ask(sampling, retries)
            if isinstance(done, EngineFault):
                return done
            offered.setdefault(done.ids, done)
            sampled += len(done.ids)
        texts = [self._actor.renderer.text(ids) for ids in offered]
        taken = list(offered.values())[choose(texts)]
        return replace(self._take(taken), discarded_tokens=sampled - len(taken.ids))

    async def _ask(self, sampling: Sampling, retries: int) -> Completion | EngineFault:
        done = await self._generate(sampling)
        while isinstance(done, EngineFault) and done.retryable and retries > 0:
            retries -= 1
            done = await self._generate(sampling)
        return done

    def _take(self, done: Completion) -> Turn:
        self._write(done.ids)
        self._talk.sampled(self._action)
        text = self._actor.renderer.text(done.ids)
        if self._actor.tokenizer_id is None:
            return Turn(text, "")
        return Turn(text, "", action_ids=done.ids, log_probs=done.log_probs)

    def hear(self, turn: Turn) -> None:
        """Go on after `turn`, the action written last with what came back. Where the chat template lays the
        conversation out again, all its ids change."""
        appended, ids = self._talk.go_on(self._action, turn)
        self.ids = [*self.ids, *ids] if appended else list(ids)

    async def _generate(self, sampling: Sampling) -> Completion | EngineFault:
        return await self._actor.engine.generate(self.ids, sampling, session=self._session)

    def _recall(self, turn: Turn) -> None:
        """Take `turn` as one of its own."""
        if turn.action_ids:
            self._write(turn.action_ids)
            self._talk.sampled(self._action)
        else:
            self._write(self._talk.written(turn))

    def _write(self, ids: Sequence[int]) -> None:
        self._action = list(ids)
        self.ids = [*self.ids, *ids]
