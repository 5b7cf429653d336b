"""An actor that takes one of several sampled actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from guessing import Guessing, guess
from playing import how

from eto.engines.actor import Actor
from eto.engines.scripted import ScriptedEngine
from eto.protocols import EngineFault
from eto.rollout.episode import candidate_seed, episode_seed, turn_seed
from eto.rollout.rollouts import rollouts
from eto.training.learner import load_learner
from eto.training.policy_gradient import episode_examples

HERE = how(workers=0, slots=3, max_action_tokens=6)


@dataclass
class Largest:
    """Takes the largest text."""

    candidates: int = 4
    offered: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def pick(self, messages: Sequence, turns: Sequence, actions: Sequence[str]) -> int:
        self.offered.append((len(turns), tuple(actions)))
        return max(range(len(actions)), key=lambda n: actions[n])


class Seeded(ScriptedEngine):
    """Guesses by the seed; the seeds it was asked with."""

    def __init__(self, faults: int = 0) -> None:
        super().__init__(lambda messages: self.now)
        self.seeds, self.faults, self.now = [], faults, ""

    async def generate(self, ids, sampling, *, session=None):
        self.seeds.append(sampling.seed)
        if self.faults:
            self.faults -= 1
            return EngineFault("busy")
        self.now = f"guess {sampling.seed % 3}"
        return await super().generate(ids, sampling, session=session)


def test_the_action_that_is_picked_is_played():
    engine, choice = Seeded(), Largest()
    [played] = rollouts(
        Actor(engine, engine.renderer, "a", choice=choice), Guessing(), [guess("n", 9)], **HERE
    )
    first = episode_seed(0, played.task.id, 0)
    seeds = [candidate_seed(turn_seed(first, turn), n) for turn in range(len(played.turns)) for n in range(4)]
    assert engine.seeds == seeds and len(set(seeds)) == len(seeds)
    assert engine.seeds[0] == first, "the first candidate has the turn's own seed"
    for turn, (before, offered) in enumerate(choice.offered):
        drawn = [f"guess {seed % 3}" for seed in seeds[4 * turn : 4 * turn + 4]]
        assert (before, offered) == (turn, tuple(dict.fromkeys(drawn))), "equal ones are offered once"
        assert played.actions[turn] == max(offered)


@pytest.mark.parametrize("faults", [1, 2])
def test_a_fault_of_the_engine_is_retried(faults):
    engine = Seeded(faults)
    actor = Actor(engine, engine.renderer, "a", choice=Largest())
    [played] = rollouts(actor, Guessing(), [guess("n", 9)], **HERE)
    assert played.failed == (faults == 2)


def test_a_model_goes_on_after_the_action_that_it_took(tiny_path):
    """Each turn's log-probs are those that the conversation with the actions taken gives."""
    learner = load_learner(tiny_path, dtype="float32")
    actor = learner.actor("a")
    suite, tasks = Guessing(), [guess(n, 9) for n in range(3)]
    chosen = rollouts(replace(actor, choice=Largest()), suite, tasks, temperature=1.0, **HERE)
    plain = rollouts(actor, suite, tasks, temperature=1.0, **HERE)
    only = rollouts(replace(actor, choice=Largest(candidates=1)), suite, tasks, temperature=1.0, **HERE)
    actions = [[each.actions for each in played] for played in (chosen, plain, only)]
    assert actions[2] == actions[1] != actions[0]
    trees = [example.tree for example, _ in episode_examples(learner, chosen)]
    scored = learner.score(trees)
    assert len(scored) == 3
    for episode, [whole] in zip(chosen, scored, strict=True):
        kept = [log_prob for turn in episode.turns for log_prob in turn.log_probs]
        assert whole == pytest.approx(kept, abs=1e-4)
