"""The index of a run's episodes: kept up to date, read-only, and quick with many."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest

from eto.data.store import TrajectoryStore
from eto.errors import InputError
from eto.types import Phase, StopReason
from eto.viewer.index import EpisodeIndex, phases_of
from tests.viewer.conftest import episode


@pytest.fixture
def store(tmp_path: Path):
    with TrajectoryStore(tmp_path / "trajectories.sqlite") as store:
        yield store


def test_entries_are_what_the_store_holds(store: TrajectoryStore) -> None:
    index = EpisodeIndex(store.path)
    assert index.entries() == []
    kept = [episode(0, True, "sft"), episode(1, False, "sft"), replace(episode(2, True, "x"), success=None)]
    for each in kept:
        store.add(Phase.explore(1), each)
    entries = index.entries()
    found = [(e.task, e.kind, e.reward, e.success, e.stop, e.turns, e.source, e.outcome) for e in entries]
    assert found == [
        ("toy/find/0", "bring", 1.0, True, "terminated", 2, "sft", "won"),
        ("toy/find/1", "find", 0.25, False, "out_of_turns", 2, "sft", "lost"),
        ("toy/find/2", "bring", 1.0, None, "terminated", 2, "x", ""),
    ]
    assert [index.episode(entry.row) for entry in entries] == kept


def test_a_run_under_way_is_followed(store: TrajectoryStore) -> None:
    index = EpisodeIndex(store.path)
    failed = replace(episode(0, False, "sft"), stop=StopReason.ENVIRONMENT_FAILED, detail="it hung")
    store.add(Phase.explore(1), failed)
    [entry] = index.entries()
    assert entry.outcome == "failed"
    store.add(Phase.explore(1), episode(0, True, "sft"))  # the later success takes its place
    store.add(Phase.explore(2), episode(0, False, "eto-1"))
    again, new = index.entries()
    assert (again.row, again.outcome, new.phase) == (entry.row, "won", "explore/2")


def test_phases_come_in_their_order(store: TrajectoryStore) -> None:
    for phase in (Phase.evaluate("sft", "test"), Phase.explore(10), Phase.explore(2), Phase.expert()):
        store.add(phase, episode(0, True, "sft"))
    found = phases_of(EpisodeIndex(store.path).entries())
    assert found == ["expert", "explore/2", "explore/10", "evaluate/sft/test"]


@pytest.mark.parametrize("text", ['"quoted"', "<SCRIPT>", "100%", "a_b", "\\", "go north"])
def test_text_is_found_as_it_was_said(store: TrajectoryStore, text: str) -> None:
    one = episode(0, False, "sft")
    said = replace(one.turns[0], action=f"say {text} loud", observation="")
    store.add(Phase.explore(1), replace(one, turns=(said,)))
    other = replace(one.turns[0], action="wait", observation="")
    store.add(Phase.explore(1), replace(one, turns=(other,), sample=1))
    assert len(EpisodeIndex(store.path).rows_with(text)) == 1


def test_a_store_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    with TrajectoryStore(tmp_path / "here" / "trajectories.sqlite") as store:
        store.add(Phase.explore(1), episode(0, True, "sft"))
    before = {path.name for path in store.path.parent.iterdir()}
    store.path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    store.path.chmod(stat.S_IRUSR)
    try:
        assert len(EpisodeIndex(store.path).entries()) == 1
        if os.geteuid():  # root may write anywhere
            assert {path.name for path in store.path.parent.iterdir()} == before
    finally:
        store.path.parent.chmod(stat.S_IRWXU)


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.sqlite"
    path.write_bytes(b"no store at all" * 100)
    index = EpisodeIndex(path)
    assert index.entries() == [] and "cannot be read" in index.fault
    path.unlink()
    with TrajectoryStore(path) as store:
        for number in range(3):
            store.add(Phase.explore(1), episode(number, True, "sft"))
    with sqlite3.connect(path) as db:
        for row, record in ((1, '{"task": 1, "reward": "high", "turns": 2}'), (2, '{"task"')):
            db.execute("UPDATE episodes SET record = ? WHERE rowid = ?", (record, row))
    index = EpisodeIndex(path)
    assert [entry.kind for entry in index.entries()] == ["", "", "bring"], "what can be read is shown"
    assert index.fault == ""
    with pytest.raises(InputError):
        index.episode(1)
    with pytest.raises(InputError, match="no such episode"):
        index.episode(99)


def test_of_a_store_that_was_cut_off_the_beginning_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.sqlite"
    with TrajectoryStore(path) as store:
        for number in range(200):
            store.add(Phase.explore(1), episode(number, True, "sft"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    index = EpisodeIndex(path)
    entries = index.entries()
    assert 20 < len(entries) < 200 and entries[0].task == "toy/find/0"
    assert "cannot be read" in index.fault and str(path) in index.fault
    assert index.episode(entries[0].row).reward == 1.0
    path.write_bytes(whole)
    assert len(index.entries()) == 200 and index.fault == "", "it was restored"


def test_many_episodes_are_listed_at_once(store: TrajectoryStore) -> None:
    """100,000 take some seconds the first time, and a page then less than 200 ms."""
    store.add(Phase.explore(1), episode(0, True, "sft"))
    [(record,)] = sqlite3.connect(store.path).execute("SELECT record FROM episodes").fetchall()
    with sqlite3.connect(store.path) as db:
        rows = (("explore/1", f"toy/find/{n}", n, 0, record) for n in range(1, 100_000))
        db.executemany("INSERT INTO episodes VALUES (?, ?, ?, ?, ?)", rows)
    index = EpisodeIndex(store.path)
    assert len(index.entries()) == 100_000
    times = []
    for _ in range(5):
        start = perf_counter()
        entries = index.entries()
        [each for each in entries if each.reward < 0.5]
        times.append(perf_counter() - start)
    assert min(times) < 0.2, times
