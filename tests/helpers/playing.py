"""Settings of rollouts, and conversations without an environment, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eto.engines.actor import Actor
from eto.rollout.episode import turn_seed
from eto.settings import EnvironmentLimits, RolloutSettings
from eto.types import Message, Turn


def how(**values: Any) -> dict[str, Any]:
    """Arguments of `rollouts` and `replay`: each value in the settings that it belongs to."""
    settings = {name: values.pop(name) for name in list(values) if name in RolloutSettings.model_fields}
    limits = {name: values.pop(name) for name in list(values) if name in EnvironmentLimits.model_fields}
    return {"settings": RolloutSettings(**settings), "limits": EnvironmentLimits(**limits), **values}


class Talk:
    """A conversation of an actor, turn by turn, without an environment."""

    def __init__(
        self,
        actor: Actor,
        messages: Sequence[Message],
        *,
        max_tokens: int = 12,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.actor, self.turns = actor, []
        self.dialogue = actor.dialogue(messages, room=max_tokens)
        self._sampling = actor.sampling(max_tokens, temperature, seed)

    @property
    def ids(self) -> list[int]:
        """All tokens so far."""
        return self.dialogue.ids

    async def ask(self, observation: str | None = None) -> Turn:
        """The next action, after `observation` if there is one."""
        if observation is not None:
            self.hear(observation)
        seed = turn_seed(self._sampling.seed, len(self.turns))
        self.turns.append(await self.dialogue.act(replace(self._sampling, seed=seed)))
        return self.turns[-1]

    def act(self, observation: str | None = None) -> Turn:
        """`ask`, for tests that are not asynchronous."""
        return asyncio.run(self.ask(observation))

    def hear(self, observation: str) -> None:
        """What came back on the last action."""
        self.turns[-1] = replace(self.turns[-1], observation=observation)
        self.dialogue.hear(self.turns[-1])

    def play(self, observations: Sequence[str | None]) -> list[tuple[int, ...]]:
        """The ids of an action after each of `observations`; the cache is freed."""

        async def all_of_them() -> list[tuple[int, ...]]:
            async with self.dialogue:
                return [(await self.ask(seen)).action_ids for seen in observations]

        return asyncio.run(all_of_them())


def act_together(talks: Sequence[Talk], observation: str | None = None) -> list[Turn]:
    """The next actions of several conversations, decoded in the same steps."""

    async def together() -> list[Turn]:
        return list(await asyncio.gather(*(talk.ask(observation) for talk in talks)))

    return asyncio.run(together())
