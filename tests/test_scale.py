"""The simulation of many workers: its queues by hand, and that each part can be the limit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale import Setting, bound, shipping_seconds, simulate

ALONE = Setting(
    workers=1,
    tasks=1,
    slots=1,
    simulators=1,
    turns=1,
    most_turns=1,
    tokens=10,
    decode=0.1,
    step=0.5,
    reset=2,
    spread=0,
    driver=0.25,
    store=0.75,
    weights=10,
    link=5,
)


def test_one_episode_by_hand():
    """Start 2, action 10 x 0.1, driver 0.25, answer 0.5, store 0.75; before it 2 for the weights."""
    found = simulate(ALONE)
    assert found.playing == pytest.approx(2 + 1 + 0.25 + 0.5 + 0.75)
    assert found.shipping == 2
    assert found.simulators == pytest.approx(2.5 / 4.5) and found.driver == pytest.approx(1 / 4.5)


def test_two_episodes_share_simulator_and_driver():
    """The second starts when the first has started, at 4, acts until 5, and waits 0.25 for the driver, who
    stores the first: 5.25 + 0.25 + 0.5 + 0.75."""
    both = replace(ALONE, tasks=2, slots=2)
    assert simulate(both).playing == pytest.approx(6.75)
    apart = replace(both, simulators=2)
    # Side by side until the driver, who lets the second wait 0.25, and then the store.
    assert simulate(apart).playing == pytest.approx(2 + 1 + 0.25 + 0.5 + 0.75 + 0.75)


def test_weights_to_many():
    assert shipping_seconds(replace(ALONE, workers=7)) == 14
    assert shipping_seconds(replace(ALONE, workers=7, relayed=True)) == 2 * 3


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"driver": 0.05}, "driver"),
        ({"store": 2.0}, "driver"),
        ({"step": 2.0}, "simulators"),
        ({"weights": 1e13}, "weights"),
        ({}, "engines"),
    ],
)
def test_each_part_can_be_the_limit(changes, limit):
    """What is stated to be the limit is: a simulated exploration takes at least as long, and not twice."""
    setting = replace(Setting(workers=4, tasks=300, most_turns=40), **changes)
    parts = bound(setting)
    assert max(parts, key=parts.__getitem__) == limit
    found = simulate(setting)
    assert 0.8 * parts[limit] < found.seconds < 2 * sum(parts.values())


def test_more_workers_than_episodes_do_not_help():
    few, many = (simulate(Setting(workers=n, tasks=400, weights=0)) for n in (50, 500))
    assert many.playing > 0.9 * few.playing and many.half_empty == 1


def test_as_a_command():
    root = Path(__file__).resolve().parents[1]
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "--workers", "1", "8", "--tasks", "50"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    assert [line.split("|")[1].strip() for line in made.stdout.splitlines()[2:]] == ["1", "8"]
