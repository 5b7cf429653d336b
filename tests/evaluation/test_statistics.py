"""Intervals and comparisons against scipy and against numbers worked out by hand."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from eto.errors import EnvironmentFailure, InputError
from eto.evaluation.statistics import (
    by_task,
    mean_interval,
    paired_difference,
    pooled_difference,
    rate_interval,
    reward,
    summarise,
    wilson_interval,
)
from eto.types import Message, StopReason, Task, Trajectory, Turn


def episode(
    task, reward=0.0, success=None, *, turns=1, score=None, stop=StopReason.TERMINATED, kind="k", sample=0
):
    return Trajectory(
        Task(task, "toy", kind, "test"),
        (Message("user", "go"),),
        (Turn("a", "o"),) * turns,
        reward,
        success,
        stop,
        "sft",
        sample=sample,
        score=score,
    )


def resampled(values, resamples, seed):
    """Percentile bounds written out by hand."""
    generator = np.random.default_rng(seed)
    means = [np.mean(generator.choice(values, len(values))) for _ in range(resamples)]
    return np.quantile(means, [0.025, 0.975])


def test_mean_interval_agrees_with_resampling_by_hand():
    values = np.random.default_rng(1).beta(2, 1, size=40)
    found = mean_interval(values, resamples=20000)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(resampled(values, 20000, 2), abs=0.004)


def test_intervals_stay_what_they_were():
    """Bounds of one seed, from before they were drawn by scipy, which draws the same."""
    clusters = {str(task): float(task % 7) for task in range(23)}
    found = pooled_difference([(clusters, dict.fromkeys(clusters, 3.0)), ({"0": 1.0}, {"0": 0.0})], seed=4)
    assert (found.low, found.high) == pytest.approx((-0.9266908212560373, 0.6086956521739131), abs=1e-12)


def test_interval_does_not_depend_on_block_size(monkeypatch):
    values = list(np.linspace(0, 1, 30))
    whole = mean_interval(values, resamples=501)
    monkeypatch.setattr("eto.evaluation.statistics._BLOCK", 70)
    assert mean_interval(values, resamples=501) == whole


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    intervals = [mean_interval(generator.normal(size=40), resamples=400, seed=s) for s in range(300)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert 0.88 <= covered <= 0.985


def test_too_few_values_give_no_bounds():
    assert math.isnan(mean_interval([]).mean)
    one = mean_interval([0.5])
    assert one.mean == 0.5 and math.isnan(one.low) and one.n == 1
    assert one.to_dict() == {"mean": 0.5, "low": None, "high": None, "n": 1}


@pytest.mark.parametrize(("successes", "n"), [(0, 16), (16, 16), (7, 20)])
def test_wilson_agrees_with_scipy(successes, n):
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    ours = wilson_interval(successes, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_rates_use_wilson_only_where_all_tasks_agree():
    assert rate_interval([1.0] * 16) == wilson_interval(16, 16)
    assert rate_interval([0.0] * 16).high > 0.1
    mixed = [1.0] * 5 + [0.0] * 11
    assert rate_interval(mixed) == mean_interval(mixed)


def test_by_task_averages_samples_and_leaves_failures_out():
    episodes = [
        episode("a", 1.0),
        episode("a", 0.5, sample=1),
        episode("a", 0.0, sample=2, stop=StopReason.ENVIRONMENT_FAILED),
        episode("b", 0.2),
        episode("c", 0.0, stop=StopReason.ENGINE_FAILED),
    ]
    assert by_task(episodes, reward) == {"a": 0.75, "b": 0.2}
    assert by_task(episodes, lambda t: None) == {}


def test_paired_difference_uses_common_tasks_and_its_sign():
    found = paired_difference({"a": 1.0, "b": 0.5, "x": 9.0}, {"a": 0.0, "b": 0.5, "y": -9.0})
    assert (found.mean, found.n) == (0.5, 2)
    assert found.low == 0.0 and found.high == 1.0
    assert paired_difference({"a": 1.0}, {"b": 1.0}).n == 0


def test_p_value_agrees_with_all_signs_flipped_by_hand():
    values = np.random.default_rng(5).normal(0.4, 1, 10)
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-12)
    first, second = {str(i): v for i, v in enumerate(values)}, dict.fromkeys(map(str, range(10)), 0.0)
    assert paired_difference(first, second, resamples=2000).p == pytest.approx(exact, abs=1e-12)
    assert paired_difference(first, second, resamples=1000).p == pytest.approx(exact, abs=0.03)


def test_a_sampled_p_value_is_never_zero():
    first, second = {str(i): 1.0 for i in range(40)}, {str(i): 0.0 for i in range(40)}
    assert paired_difference(first, second, resamples=999).p == pytest.approx(1 / 1000)


def test_no_difference_has_p_one():
    same = {str(i): i / 10 for i in range(10)}
    assert paired_difference(same, same).p == 1.0


def test_pooling_copies_of_one_run_does_not_narrow_the_interval():
    generator = np.random.default_rng(7)
    first = {str(i): v for i, v in enumerate(generator.normal(0.3, 1, 30))}
    second = dict.fromkeys(first, 0.0)
    once, thrice = pooled_difference([(first, second)]), pooled_difference([(first, second)] * 3)
    assert (thrice.mean, thrice.low, thrice.high, thrice.p) == pytest.approx(
        (once.mean, once.low, once.high, once.p)
    )
    assert thrice.n == 30


def test_pooling_weighs_every_run_and_task_alike():
    found = pooled_difference([({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}), ({"a": 0.0}, {"a": 1.0})])
    assert found.mean == pytest.approx((1 + 1 - 1) / 3)


def test_summary_by_hand():
    episodes = [
        episode("a", 1.0, True, turns=4, score=1.0, kind="find"),
        episode("a", 1.0, True, turns=6, score=1.0, kind="find", sample=1),
        episode("b", 0.5, False, turns=10, score=-1.0, kind="find"),
        episode("c", 0.3, False, turns=16, score=0.3, kind="grow", stop=StopReason.OUT_OF_TURNS),
        episode("d", 0.0, None, turns=0, kind="grow", stop=StopReason.ENVIRONMENT_FAILED),
    ]
    found = summarise(episodes)
    assert (found.tasks, found.episodes, found.failed) == (3, 4, 1)
    assert found.reward.mean == pytest.approx((1.0 + 0.5 + 0.3) / 3)
    assert found.final_reward.mean == pytest.approx((1.0 + 0.0 + 0.3) / 3)
    assert found.success.mean == pytest.approx(1 / 3)
    assert (found.steps_to_success.mean, found.steps_to_success.n) == (5.0, 1)
    assert found.turns.mean == pytest.approx((5 + 10 + 16) / 3)
    assert (found.disasters, found.out_of_turns) == (1, 1)
    assert set(found.kinds) == {"find", "grow"}
    assert found.kinds["grow"].failed == 1 and found.kinds["grow"].reward.mean == 0.3
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["kinds"]["find"]["reward"]["mean"] == 0.75


def test_summary_of_nothing_is_an_error_or_unknown_not_zero():
    with pytest.raises(InputError, match="no episodes"):
        summarise([])
    broken = [replace(episode("t", stop=StopReason.ENVIRONMENT_FAILED), detail="it broke")] * 2
    with pytest.raises(EnvironmentFailure, match="none of 2 episodes could be played\n  2 × it broke"):
        summarise(broken)
    assert summarise(broken, unfinished=True).failed == 2
    found = summarise([], unfinished=True).to_dict()
    assert found["tasks"] == 0 and found["reward"]["mean"] is None
