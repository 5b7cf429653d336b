"""Several episodes from each of several prefixes of a task."""

from __future__ import annotations

import pytest
from guessing import Guessing, guess
from playing import how

from eto.engines.actor import Actor
from eto.engines.scripted import ScriptedEngine
from eto.errors import InputError
from eto.rollout.rollouts import rollouts, sample_numbers, stream_continuations
from eto.training.learner import load_learner
from eto.types import Prefix, Turn

HERE = how(workers=0, slots=4, max_action_tokens=6)


def count_up(messages) -> str:
    return f"guess {sum(message.role == 'assistant' for message in messages)}"


def counter() -> Actor:
    engine = ScriptedEngine(count_up)
    return Actor(engine, engine.renderer, "counter")


def in_order(played):
    return sorted(played, key=lambda t: (t.task.id, t.sample))


def test_each_prefix_has_sample_numbers_of_its_own():
    one, other = guess("one", 5), guess("other", 3)
    prefixes = [Prefix(one), Prefix(other), Prefix(one, (Turn("guess 5", ""),))]
    assert sample_numbers(prefixes, 2) == [
        (one.id, range(0, 2)),
        (other.id, range(0, 2)),
        (one.id, range(2, 4)),
    ]


def test_episodes_go_on_from_their_prefixes():
    task, right = guess("five", 5), Turn("guess 5", "")
    prefixes = [Prefix(task), Prefix(task, (Turn("guess 2", ""),)), Prefix(task, (right,))]
    played = in_order(stream_continuations(counter(), Guessing(), prefixes, samples=2, **HERE))
    assert [t.sample for t in played] == [0, 1, 2, 3, 4, 5]
    assert all(t.actions == tuple(f"guess {n}" for n in range(6)) for t in played[:2])
    assert all(t.actions == ("guess 2", *(f"guess {n}" for n in range(1, 6))) for t in played[2:4])
    assert all(t.actions == ("guess 5",) and t.reward == 1.0 for t in played[4:])
    assert played[2].turns[0].observation == "too low", "the simulator's own"


def test_what_was_played_is_left_out():
    task = guess("five", 5)
    prefixes = [Prefix(task), Prefix(task, (Turn("guess 2", ""),))]
    done = frozenset({(task.id, 0), (task.id, 3)})
    played = stream_continuations(counter(), Guessing(), prefixes, samples=2, done=done, **HERE)
    assert sorted(t.sample for t in played) == [1, 2]


def test_values_out_of_range_are_refused():
    with pytest.raises(InputError, match="samples"):
        stream_continuations(counter(), Guessing(), [Prefix(guess("a", 1))], samples=0, **HERE)


def test_a_prefix_passes_the_model_once_for_all_that_go_on_from_it(tiny_path, threads):
    threads(1)
    learner = load_learner(tiny_path, dtype="float32", drafting=False)
    task, actor = guess("far", 7), learner.actor("m")
    turns = tuple(Turn("guess 0", "") for _ in range(3))
    # The first request of a decoder is passed alone.
    rollouts(actor, Guessing(), [guess("warm", 7)], **HERE)
    counts: list[int] = []
    embeddings = actor.engine.decoder.model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, inputs, _output: counts.append(inputs[0].numel()))
    passed = {}
    for samples in (1, 4):
        counts.clear()
        played = in_order(
            stream_continuations(
                actor, Guessing(), [Prefix(task, turns)], samples=samples, temperature=1.0, **HERE
            )
        )
        written = sum(len(turn.action_ids or ()) for t in played for turn in t.turns)
        assert len(played) == samples and len({t.actions for t in played}) == samples
        passed[samples] = sum(counts) - written
    [alone] = played[:1]
    with_prefix = len(learner.renderer.samples(alone)[0].ids)
    assert passed[4] < 2 * with_prefix, "beside what they write, four pass little more than one does"
