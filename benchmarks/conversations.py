"""Synthetic conversations and pairs of a wanted length, and how a policy plays them without a simulator."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from eto.training.learner import Learner
from eto.training.trees import Tree, build_tree
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


def play(policy: Learner, scripts: Sequence[Script], slots: int) -> list[list[tuple[int, ...]]]:
    """Token ids of the greedy actions of each script, at most `slots` scripts at the same time."""
    waiting = deque(enumerate(scripts))
    playing: dict[int, int] = {}  # id of session -> number of script
    actions: list[list[tuple[int, ...]]] = [[] for _ in scripts]
    while waiting or playing:
        while waiting and len(playing) < slots:
            number, script = waiting.popleft()
            session = policy.open(script.messages)
            playing[id(session)] = number
            policy.submit(session)
        for reply in policy.poll():
            number = playing[id(reply.session)]
            actions[number].append(reply.action_ids)
            turn = len(actions[number])
            if turn <= len(scripts[number].observations):
                policy.submit(reply.session, scripts[number].observations[turn - 1])
            else:
                del playing[id(reply.session)]
                policy.release(reply.session)
    return actions


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
