"""CoreGroups compute side by side what one computation gives, and leave torch's threads as they were."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eto.cpu.core_groups import CoreGroups, balanced


@pytest.fixture
def three_threads(threads):
    threads(3)


def test_parts_run_at_the_same_time_in_their_order(three_threads):
    meeting = threading.Barrier(3, timeout=10)  # passed only when all three have come

    def part(number: int) -> tuple[int, int]:
        meeting.wait()
        return number, torch.get_num_threads()

    with CoreGroups(torch.device("cpu")) as lanes:
        assert lanes.count == 3
        assert lanes.map(part, [2, 0, 1]) == [(2, 1), (0, 1), (1, 1)]
        assert torch.get_num_threads() == 3
        assert lanes.map(lambda _: torch.get_num_threads(), [0]) == [3], "alone it has all threads"
        assert lanes.map(lambda part: part, []) == []


def test_an_error_waits_for_the_others(three_threads):
    done = []

    def part(number: int) -> None:
        if number == 0:
            raise KeyError(number)
        done.append(number)

    with CoreGroups(torch.device("cpu")) as lanes:
        with pytest.raises(KeyError):
            lanes.map(part, [0, 1, 2])
        assert sorted(done) == [1, 2]
        assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="4 parts for 3 groups of cores"):
            lanes.map(part, [1, 2, 3, 4])


def test_other_devices_have_one_lane(three_threads):
    assert CoreGroups(torch.device("cuda")).count == 1
    assert CoreGroups(torch.device("cpu"), 2).count == 2


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 5))
def test_runs_hold_every_item_once_in_order(sizes, count):
    runs = balanced(sizes, count)
    assert [at for run in runs for at in run] == list(range(len(sizes)))
    assert len(runs) <= count and all(runs)
    assert max(sum(sizes[at] for at in run) for run in runs) <= sum(sizes) / count + max(sizes)
