"""An actor that samples several actions in each state and takes one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guessing import Guessing
from playing import how

from eto.engines.actor import Actor
from eto.engines.scripted import ScriptedEngine
from eto.protocols import EngineFault
from eto.rollout.episode import candidate_seeds, turn_seed
from eto.rollout.rollouts import rollouts
from eto.training.learner import load_learner
from eto.types import Message, StopReason, Trajectory, Turn


class Takes:
    """Takes the candidate `number`, and keeps what it saw."""

    def __init__(self, number: int, candidates: int = 3) -> None:
        self.number, self.candidates = number, candidates
        self.seen: list[tuple[int, int, list[str]]] = []

    def pick(self, messages: Sequence[Message], turns: Sequence[Turn], actions: Sequence[Turn]) -> int:
        self.seen.append((len(messages), len(turns), [each.action for each in actions]))
        assert all(turn.observation for turn in turns) and not any(each.observation for each in actions)
        return self.number


def played(actor: Actor) -> list[Trajectory]:
    suite = Guessing()
    limits = how(workers=0, slots=4, max_action_tokens=6)
    return rollouts(actor, suite, suite.tasks("train")[:3], samples=2, temperature=1.0, seed=5, **limits)


def said(episodes: Sequence[Trajectory]) -> list[list[tuple[int, ...] | None]]:
    return [[turn.action_ids for turn in each.turns] for each in episodes]


def test_the_first_candidate_is_the_action_without_a_choice(tiny_path: Path) -> None:
    actor = load_learner(tiny_path, dtype="float32").actor("a")
    plain = played(actor)
    first, last = Takes(0), Takes(2)
    same, other = (played(replace(actor, choice=choice)) for choice in (first, last))
    assert said(same) == said(plain) and said(other) != said(plain)
    assert len(first.seen) == sum(len(each.turns) for each in plain)
    assert all(len(actions) == 3 for _, _, actions in first.seen)
    taken = [turn.action for each in other for turn in each.turns]
    assert sorted(taken) == sorted(actions[2] for _, _, actions in last.seen)
    assert any(len(set(actions)) > 1 for _, _, actions in first.seen), "each has a seed of its own"


def test_what_was_not_taken_leaves_no_trace(tiny_path: Path) -> None:
    """Prompt and answers of later turns follow what was taken: played alone, by its seeds, it is the same."""
    actor = load_learner(tiny_path, dtype="float32").actor("a")
    episode = played(replace(actor, choice=Takes(1)))[0]
    for at, turn in enumerate(episode.turns):
        seed = candidate_seeds(turn_seed(episode.seed, at), 3)[0]
        sampling = actor.sampling(6, 1.0, seed)

        async def again(before=episode.turns[:at], sampling=sampling):
            async with actor.dialogue(episode.messages, before, room=6) as dialogue:
                return await dialogue.act(sampling)

        assert asyncio.run(again()).action_ids == turn.action_ids, at


def test_a_candidate_that_fails_is_the_engines_failure() -> None:
    class Failing(ScriptedEngine):
        asked = 0

        async def generate(self, ids, sampling, *, session=None):
            self.asked += 1
            fault = EngineFault("out of memory")
            return fault if self.asked == 3 else await super().generate(ids, sampling, session=session)

    engine = Failing(lambda messages: "guess 0")
    actor = Actor(engine, engine.renderer, "scripted", choice=Takes(0, candidates=4))
    suite = Guessing()
    [episode] = rollouts(actor, suite, suite.tasks("train")[:1], **how(workers=0, slots=1, retries=0))
    assert (
        episode.stop is StopReason.ENGINE_FAILED and episode.detail == "out of memory" and not episode.turns
    )
