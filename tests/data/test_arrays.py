"""Arrays with the mark of the episodes that they were made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import trajectory

from eto.data.arrays import in_order, mark_of, numbered, read_arrays, write_arrays
from eto.data.records import trajectory_from_record, trajectory_to_record
from eto.errors import InputError

EPISODES = [trajectory(("look", "A cup."), ("take cup", ""), number=n) for n in range(2)]


def test_the_mark_is_that_of_the_records() -> None:
    mark = mark_of(EPISODES)
    assert mark == mark_of(trajectory_from_record(trajectory_to_record(each)) for each in EPISODES)
    first, second = EPISODES
    others = [
        [second, first],
        [first],
        [replace(first, reward=0.5), second],
        [replace(first, turns=first.turns[:1]), second],
        [replace(first, turns=(replace(first.turns[0], action="wait"), first.turns[1])), second],
    ]
    assert len({mark, mark_of(EPISODES, "besides"), *map(mark_of, others)}) == 7


def test_arrays_come_back_in_order(tmp_path: Path) -> None:
    path, mark = tmp_path / "scored.npz", mark_of(EPISODES)
    old = [np.arange(n, dtype=np.float32) for n in range(12)]
    write_arrays(path, numbered("old", old) | numbered("values", old[:2]), mark)
    kept = read_arrays(path, mark)
    assert [each.tolist() for each in in_order("old", kept)] == [each.tolist() for each in old]
    assert len(in_order("values", kept)) == 2 and in_order("reference", kept) == []


def test_those_of_other_episodes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scored.npz"
    write_arrays(path, {}, mark_of(EPISODES))
    with pytest.raises(InputError, match="made from other episodes") as caught:
        read_arrays(path, mark_of(EPISODES[:1]))
    assert str(path) in str(caught.value) and str(tmp_path) in caught.value.hint
    np.savez(path, old0=np.zeros(2))
    with pytest.raises(InputError, match="made from other episodes"):
        read_arrays(path, mark_of(EPISODES))
