"""The course of the learning rate: no step at rate 0, the rate logged is the rate used, resumed as it was."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_loop import EVERY_STEP, Interrupt, changed, episodes, interrupt, pairs, policy, rows, weights

from eto.settings import DpoSettings, SftSettings
from eto.settings.training import Schedule
from eto.training.cloning import cloning
from eto.training.preference import preference
from eto.training.schedule import rate_share, warmup_steps

SCHEDULES = get_args(Schedule)


def course(schedule: str, ratio: float, steps: int) -> list[float]:
    warmup = warmup_steps(ratio, steps)
    return [rate_share(schedule, step, warmup, steps) for step in range(steps)]


def test_by_hand():
    assert course("constant", 0.0, 3) == [1, 1, 1]
    assert course("constant_with_warmup", 0.5, 6) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])
    assert course("linear", 0.25, 8) == pytest.approx([1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert course("cosine", 0.2, 5) == pytest.approx([1, 1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert course("linear", 0.99, 1) == [1]


@given(st.sampled_from(SCHEDULES), st.floats(0, 1, exclude_max=True), st.integers(1, 300))
def test_every_step_moves_and_the_peak_is_reached(schedule, ratio, steps):
    rates = course(schedule, ratio, steps)
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == 1
    warmup = 0 if schedule == "constant" else warmup_steps(ratio, steps)
    assert rates[:warmup] == [(k + 1) / warmup for k in range(warmup)]
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_smallest_training_moves_weights(tiny_path, schedule):
    """One example, one epoch, one step, at the defaults of everything else."""
    for train, settings, data in ((cloning, SftSettings, episodes(1)), (preference, DpoSettings, pairs(1))):
        learner = policy(tiny_path)
        before = weights(learner.model)
        seen = rows(train(learner, data, settings(epochs=1, schedule=schedule)))
        assert changed(before, weights(learner.model)) == set(before)
        assert [row["learning_rate"] for row in seen] == [settings().learning_rate]


def test_a_step_of_replay_alone_moves_weights(tiny_path):
    learner, moved = policy(tiny_path), []
    before = weights(learner.model)

    settings = DpoSettings(epochs=1, batch_size=1, rehearsal_weight=1.0)
    for step in preference(learner, pairs(1), settings, rehearsal=episodes(1)):
        moved.append("margin" not in step.figures and bool(changed(before, weights(learner.model))))
        before.update(weights(learner.model))
    assert sorted(moved) == [False, True]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_logged_is_the_rate_used(tiny_path, schedule):
    """Without weight decay and from fresh moments, AdamW moves a weight by the rate."""
    settings = SftSettings(epochs=5, learning_rate=1e-3, batch_size=5, schedule=schedule)
    if schedule != "constant":
        settings = settings.replace(warmup_ratio=0.4)
    learner, rates, sizes = policy(tiny_path), [], []
    before = weights(learner.model)
    for step in cloning(learner, episodes(), settings):
        rates.append(step.figures["learning_rate"])
        now = weights(learner.model)
        sizes.append(max(float((now[name] - before[name]).abs().max()) for name in now))
        before.update(now)
    assert rates == pytest.approx([1e-3 * share for share in course(schedule, 0.4, 5)])
    assert sizes[0] == pytest.approx(rates[0], rel=1e-3)
    assert all(size > 0.1 * rate for size, rate in zip(sizes, rates, strict=True))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_training_has_the_same_rates(tiny_path, tmp_path, schedule):
    settings = SftSettings(epochs=6, learning_rate=1e-3, schedule=schedule)
    undisturbed = rows(cloning(policy(tiny_path), episodes(), settings))
    with pytest.raises(Interrupt):
        interrupt(cloning(policy(tiny_path), episodes(), settings, directory=tmp_path, **EVERY_STEP), 4)
    resumed = rows(cloning(policy(tiny_path), episodes(), settings, directory=tmp_path))
    assert [row["learning_rate"] for row in resumed] == [row["learning_rate"] for row in undisturbed[3:]]


def test_variables_of_accelerate_do_not_scale_the_gradient(tiny_path, monkeypatch):
    def norm():
        return rows(cloning(policy(tiny_path), episodes(2), SftSettings(epochs=1)))[0]["grad_norm"]

    wanted = norm()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert norm() == pytest.approx(wanted)
