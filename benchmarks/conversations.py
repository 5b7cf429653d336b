"""Synthetic conversations and pairs of a wanted length, and how a policy plays them without a simulator."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eto.tokens.prefix_tree import Tree, build_tree
from eto.training.learner import Learner
from eto.types import Message

NOUNS = """
river stone door garden lamp cup table window bread horse road cloud music paper boat candle winter
summer village mountain letter clock mirror bridge field apple basket ladder kitchen forest
"""
WORDS = NOUNS.split()
PROMPT = (
    Message("system", "You tell a story without end, in long sentences."),
    Message("user", "Begin the story."),
)


@dataclass(frozen=True, slots=True)
class Script:
    """A conversation whose observations are given beforehand."""

    messages: Sequence[Message]
    observations: Sequence[str]


def play(
    policy: Learner, scripts: Sequence[Script], slots: int, max_tokens: int
) -> list[list[tuple[int, ...]]]:
    """Token ids of the greedy actions of each script, at most `slots` scripts at the same time."""
    actor = policy.actor("bench")
    sampling = actor.sampling(max_tokens)
    free = asyncio.Semaphore(slots)

    async def one(script: Script) -> list[tuple[int, ...]]:
        async with free, actor.dialogue(script.messages, room=max_tokens) as dialogue:
            turns = [await dialogue.act(sampling)]
            for text in script.observations:
                dialogue.hear(replace(turns[-1], observation=text))
                turns.append(await dialogue.act(sampling))
        return [turn.action_ids for turn in turns]

    async def all_of_them() -> list[list[tuple[int, ...]]]:
        return await asyncio.gather(*(one(script) for script in scripts))

    return asyncio.run(all_of_them())


def observation(words: random.Random) -> str:
    """About 40 tokens, the template's included."""
    return f"Go on, and let these appear: {', '.join(words.choices(WORDS, k=11))}."


def pair_tree(policy: Learner, length: int, seed: int) -> Tree:
    """A pair of at least `length` tree tokens; both sides share the first third."""
    words, renderer = random.Random(seed), policy.renderer
    prompt = renderer.prompt_ids(PROMPT)
    sides = [(list(prompt), [-1] * len(prompt)) for _ in range(2)]

    def add(members: Sequence[tuple[list[int], list[int]]]) -> None:
        action = renderer.action_ids(" ".join(words.choices(WORDS, k=7)))
        between = renderer.observation_ids(observation(words))
        for ids, turns in members:
            number = max(turns) + 1
            ids += action + between
            turns += [number] * len(action) + [-1] * len(between)

    while len(sides[0][0]) < length // 3:
        add(sides)
    shared, side = len(sides[0][0]), 0
    while len(sides[0][0]) + len(sides[1][0]) - shared < length or side < 2:
        add(sides[side % 2 :][:1])
        side += 1
    return build_tree(sides)
