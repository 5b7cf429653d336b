"""Regret, shares, win rates and the fitted curve, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from eto.environments.bandit.figures import (
    beats,
    best_share,
    cumulative_regret,
    fit_regret,
    least_share,
    win_rates,
)

GAPS = np.tile([0.0, 0.5, 0.2], (6, 1))


def test_regret_and_shares_of_six_pulls() -> None:
    pulls = [0, 1, 2, 0, 0, 1]
    assert cumulative_regret(GAPS, pulls) == pytest.approx([0.0, 0.5, 0.7, 0.7, 0.7, 1.2])
    assert best_share(GAPS, pulls) == pytest.approx(3 / 6)
    assert least_share(3, pulls) == pytest.approx(3 * 1 / 6)
    assert least_share(3, [0, 1, 2]) == 1.0 and least_share(3, [0, 0, 1]) == 0.0
    assert cumulative_regret(GAPS, [1, 1]) == pytest.approx([0.5, 1.0]), "an episode may be cut"
    for figure in (lambda: best_share(GAPS, []), lambda: least_share(3, [])):
        with pytest.raises(ValueError, match="no pull"):
            figure()


def test_the_best_arm_may_change_from_step_to_step() -> None:
    gaps = np.array([[0.0, 1.0], [2.0, 0.0]])
    assert best_share(gaps, [0, 1]) == 1.0 and best_share(gaps, [1, 1]) == 0.5
    assert cumulative_regret(gaps, [1, 0]) == pytest.approx([1.0, 3.0])


def test_a_curve_finds_what_it_was_drawn_with() -> None:
    steps = np.arange(1.0, 301.0)
    logarithmic = 0.8 * np.log(steps) ** 2 / 0.5 + 1.5
    curve = fit_regret(logarithmic, 0.5)
    assert curve.power == pytest.approx(2.0, abs=0.05) and curve.scale == pytest.approx(0.8, abs=0.05)
    assert curve.slope == pytest.approx(0.0, abs=0.005) and curve.error < 0.05
    assert curve(steps) == pytest.approx(logarithmic, abs=0.2)
    linear = fit_regret(0.4 * steps, 0.5)
    assert linear.slope == pytest.approx(0.4, abs=0.01) and linear.error < 0.05
    both = fit_regret(2.0 * np.log(steps) / 0.2 + 0.1 * steps - 3.0, 0.2)
    assert (both.power, both.slope, both.offset) == pytest.approx((1.0, 0.1, -3.0), abs=0.05)
    for values, gap in ((steps[:4], 0.5), (steps, 0.0)):
        with pytest.raises(ValueError, match="5 steps"):
            fit_regret(values, gap)


def test_who_beats_whom_is_a_paired_test() -> None:
    draw = np.random.default_rng(0)
    luck = draw.normal(0.5, 0.2, 20)
    better = luck + 0.02 + draw.normal(0.0, 0.01, 20)  # far less than the luck of a trial, and in all of them
    assert ttest_1samp(better - luck, 0.0).pvalue < 0.05
    assert beats(list(better), list(luck)) and not beats(list(luck), list(better))
    noise = luck + draw.normal(0.0, 0.3, 20)
    assert not beats(list(noise), list(luck)) and not beats(list(luck), list(noise))
    assert beats([1.0, 1.0], [0.5, 0.5]) and not beats([1.0, 1.0], [1.0, 1.0]), "constant differences"


def test_win_rates_count_agents_and_kinds() -> None:
    high, low = [0.9, 0.8, 0.9, 0.85], [0.1, 0.2, 0.15, 0.1]
    scores = {
        "a": {"easy": high, "hard": low},
        "b": {"easy": low, "hard": low},
        "c": {"easy": low, "hard": high},
    }
    # a beats b and c on easy: 2 of 4 comparisons. b beats nobody. c beats a and b on hard.
    assert win_rates(scores) == {"a": 0.5, "b": 0.0, "c": 0.5}
    with pytest.raises(ValueError, match="two agents"):
        win_rates({"a": {"easy": high}})
    with pytest.raises(ValueError, match="same kinds and trials"):
        win_rates({"a": {"easy": high}, "b": {"easy": low[:3]}})
