"""Charts say what they show: axes, units, values by hand, gaps."""

from __future__ import annotations

import xml.etree.ElementTree as tree

import pytest

from eto.data.pair_scores import PairScores, SideScores
from eto.viewer.charts import Scale, changes_chart, curve_chart, rewards_chart


def texts(chart: str, tag: str = "text") -> list[str]:
    return ["".join(each.itertext()) for each in tree.fromstring(chart).iter(tag)]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((0.002, 5.13), [0, 2, 4, 6]),
        ((-2.1, 0.9), [-3, -2, -1, 0, 1]),
        ((0.3, 0.3), [0.2, 0.3]),
        ((0.0, 0.0), [0.0, 0.2]),
        ((-1e-7, 2e-7), [-1e-7, 0.0, 1e-7, 2e-7]),
    ],
)
def test_the_grid_stands_at_round_figures(values: tuple[float, ...], ticks: list[float]) -> None:
    scale = Scale.over(values)
    assert scale.ticks == pytest.approx(ticks)
    assert scale.low <= min(values) + 1e-12 and scale.high >= max(values) - 1e-12


def test_a_curve_is_cut_where_there_is_no_number_and_says_so() -> None:
    rows = [{"step": step, "loss": value} for step, value in enumerate([3.0, 2.0, float("nan"), 1.0, 1.5], 1)]
    chart = curve_chart(rows, {"loss": "loss"}, "sft: loss", "nats")
    lines = [each.get("points") for each in tree.fromstring(chart).iter("polyline")]
    assert [len(points.split()) for points in lines] == [2, 2]
    assert "gaps: no number at 1 of 5 steps" in texts(chart)
    assert {"nats", "optimiser step", "1", "5"} <= set(texts(chart))
    assert "loss, step 4: 1" in texts(chart, "title")
    assert texts(chart, "desc") == ["loss: 3 at step 1, 1.5 at step 5"]
    assert curve_chart(rows[:1], {"loss": "loss"}, "", "") == "", "one point is no curve"


def test_rewards_tell_their_intervals() -> None:
    known = {"mean": 0.5, "low": 0.25, "high": 0.75}
    chart = rewards_chart({"<sft>": {"reward": known}, "x": {"reward": {**known, "mean": None}}}, "reward")
    assert texts(chart, "desc") == ["<sft>: 0.500, 95% interval 0.250 to 0.750"]
    assert "mean reward (0 to 1)" in texts(chart) and "<sft>" in texts(chart)


def test_changes_of_turns_are_bars_from_zero() -> None:
    chosen = SideScores((2, 0), (-1.0, None), (0.0, None))
    scores = PairScores(0, "t", "sft", "eto-1", chosen, SideScores((2, 2), (-1.0, -1.0), (-2.0, -1.0)))
    chart = changes_chart(scores)
    bars = list(tree.fromstring(chart).iter("rect"))
    assert [each.get("class") for each in bars] == ["bar chosen", "bar rejected", "bar rejected"]
    up, down, still = bars
    assert float(up.get("y")) + float(up.get("height")) == pytest.approx(float(down.get("y")), abs=0.11)
    assert up.get("height") == down.get("height") and still.get("height") == "1.0"
    assert "rejected, turn 1: -1.00 nats" in texts(chart, "title")
    assert "change of log-prob (nats)" in texts(chart)
    broken = SideScores((2, 2), (-1.0, -1.0), (float("-inf"), float("nan")))
    chart = changes_chart(PairScores(0, "t", "sft", "eto-1", chosen, broken))
    assert [each.get("class") for each in tree.fromstring(chart).iter("rect")] == ["bar chosen"]
