"""KTO on trajectories: the loss at the start, its direction, and what it needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_loop import episodes, policy, rows

from eto.errors import InputError
from eto.settings.training import KtoSettings
from eto.training.cloning import sft_example
from eto.training.unpaired import unpaired

SETTINGS = KtoSettings(epochs=3, learning_rate=1e-3, batch_size=4)


def test_what_is_desirable_becomes_likelier(tiny_path):
    learner = policy(tiny_path)
    good, bad = episodes(4)[:2], [replace(each, reward=0.0) for each in episodes(4)[2:]]
    trees = [sft_example(learner, each).tree for each in (*good, *bad)]
    before = [float(leaf.sum()) for [leaf] in learner.score(trees)]
    steps = rows(unpaired(learner, good, bad, SETTINGS))
    assert steps[0]["loss"] == pytest.approx(0.5, abs=1e-5), "1 - sigma(0) at the start"
    after = [float(leaf.sum()) for [leaf] in learner.score(trees)]
    moved = [one - other for one, other in zip(after, before, strict=True)]
    assert min(moved[:2]) > max(moved[2:])
    assert steps[-1]["desirable_drift"] > steps[-1]["undesirable_drift"]


def test_an_interrupted_training_keeps_its_reference(tiny_path, tmp_path):
    good, bad = episodes(2), [replace(each, reward=0.0) for each in episodes(4)[2:]]
    undisturbed = rows(unpaired(policy(tiny_path), good, bad, SETTINGS))
    fit = unpaired(policy(tiny_path), good, bad, SETTINGS, directory=tmp_path, checkpoint_seconds=-1.0)
    steps = iter(fit)
    next(steps), next(steps)
    steps.close()
    resumed = rows(unpaired(policy(tiny_path), good, bad, SETTINGS, directory=tmp_path))
    assert [row["loss"] for row in resumed] == pytest.approx([r["loss"] for r in undisturbed[1:]], abs=1e-5)


def test_both_sorts_are_needed(tiny_path):
    with pytest.raises(InputError, match="no undesirable trajectory"):
        unpaired(policy(tiny_path), episodes(2), [], SETTINGS)
    with pytest.raises(InputError, match="no desirable trajectory"):
        unpaired(policy(tiny_path), [], episodes(2), SETTINGS)


def test_another_tasks_prompt_is_needed(tiny_path):
    [only] = episodes(1)
    with pytest.raises(InputError, match="of one task") as refused:
        unpaired(policy(tiny_path), [only], [replace(only, reward=0.0)], SETTINGS.replace(kl_samples=2))
    assert refused.value.where == "method.kto.kl_samples"


def test_the_reference_point_is_estimated_before_each_step(tiny_path, tmp_path):
    good, bad = episodes(4), [replace(each, reward=0.0) for each in episodes(5)[4:]]
    free = rows(unpaired(policy(tiny_path), good, bad, SETTINGS))
    assert {row["reference_point"] for row in free} == {0.0}
    settings = SETTINGS.replace(kl_samples=3, epochs=5)
    undisturbed = rows(unpaired(policy(tiny_path), good, bad, settings))
    points = [row["reference_point"] for row in undisturbed]
    assert points[0] == pytest.approx(0.0, abs=1e-4) and max(points) > 0.1
    fit = unpaired(policy(tiny_path), good, bad, settings, directory=tmp_path, checkpoint_seconds=-1.0)
    steps = iter(fit)
    next(steps), next(steps)
    steps.close()
    resumed = rows(unpaired(policy(tiny_path), good, bad, settings, directory=tmp_path))
    assert [row["reference_point"] for row in resumed] == pytest.approx(points[1:], abs=1e-5)


def test_a_state_knows_what_is_desirable(tiny_path, tmp_path):
    good, bad = episodes(2), [replace(each, reward=0.0) for each in episodes(4)[2:]]
    rows(unpaired(policy(tiny_path), good, bad, SETTINGS, directory=tmp_path, checkpoint_seconds=-1.0))
    with pytest.raises(InputError, match="to train again"):
        unpaired(policy(tiny_path), [*good, bad[0]], bad[1:], SETTINGS, directory=tmp_path)
