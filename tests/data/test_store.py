"""The store counts every episode once, whatever interrupts it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from eto.data.notes import Notes
from eto.data.store import TrajectoryStore
from eto.data.stored import stream_phases
from eto.errors import InputError, MissingRequirement
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn


def episode(task: str, sample: int = 0, *, action: str = "look", failed: bool = False) -> Trajectory:
    return Trajectory(
        Task(task, "toy", "kind", "train"),
        (Message("user", "Do it."),),
        () if failed else (Turn(action, "seen", 1.0, (1, 2)),),
        0.0 if failed else 1.0,
        None,
        StopReason.ENVIRONMENT_FAILED if failed else StopReason.TERMINATED,
        "sft",
        sample=sample,
        tokenizer=None if failed else "tok",
    )


def test_phases_are_apart_and_in_order(tmp_path: Path) -> None:
    with TrajectoryStore(tmp_path / "deep" / "s.sqlite") as store:
        added = [episode("b", 1), episode("a", 10), episode("b", 0), episode("a", 2)]
        assert all(store.add(Phase("explore"), each) for each in added)
        assert store.add(Phase("evaluate"), episode("c"))
        assert store.get(Phase("explore")) == [added[3], added[1], added[2], added[0]]
        assert store.done(Phase("explore")) == {("a", 2), ("a", 10), ("b", 0), ("b", 1)}
        assert (store.count(Phase("explore")), store.count(Phase("none")), store.get(Phase("none"))) == (
            4,
            0,
            [],
        )
        assert store.phases() == [Phase("evaluate"), Phase("explore")]


def test_a_finished_episode_is_never_replaced(tmp_path: Path) -> None:
    with TrajectoryStore(tmp_path / "s.sqlite") as store:
        assert store.add(Phase("p"), episode("a"))
        assert not store.add(Phase("p"), episode("a", action="another"))
        assert not store.add(Phase("p"), episode("a", failed=True))
        assert store.get(Phase("p")) == [episode("a")] and store.failures(Phase("p")) == []


def test_a_failed_episode_is_aside_until_a_success_replaces_it(tmp_path: Path) -> None:
    with TrajectoryStore(tmp_path / "s.sqlite") as store:
        assert store.add(Phase("p"), replace(episode("a", failed=True), detail="first"))
        assert store.add(Phase("p"), replace(episode("a", failed=True), detail="second"))
        assert [each.detail for each in store.failures(Phase("p"))] == ["second"]
        assert (store.get(Phase("p")), store.count(Phase("p")), store.done(Phase("p"))) == ([], 0, set())
        assert store.done(Phase("p"), failed=True) == {("a", 0)}
        assert store.add(Phase("p"), episode("a"))
        assert (store.get(Phase("p")), store.failures(Phase("p"))) == ([episode("a")], [])


def test_a_reopened_store_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with TrajectoryStore(path) as store:
        store.add(Phase("p"), episode("a"))
    with TrajectoryStore(path) as store:
        assert not store.add(Phase("p"), episode("a"))
        assert store.add(Phase("p"), episode("b"))
        assert store.count(Phase("p")) == 2
    store.close()


def test_a_store_that_is_only_read(tmp_path: Path) -> None:
    from unwritable import unwritable  # not above: child processes import this module

    path = tmp_path / "run" / "s.sqlite"
    with TrajectoryStore(path) as writer:
        writer.add(Phase("p"), episode("a"))
        writer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with TrajectoryStore(path, read_only=True) as store:
            writer.add(Phase("p"), episode("b"))
            assert store.count(Phase("p")) == 2, "a run that goes on"
            with pytest.raises(InputError, match="cannot open or write"):
                store.add(Phase("p"), episode("c"))
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("s.sqlite", "s.sqlite-wal"):  # without the file by which processes share the log
            shutil.copy(path.with_name(name), copy)
    with unwritable(path.parent), TrajectoryStore(path, read_only=True) as store:
        assert store.get(Phase("p")) == [episode("a"), episode("b")]
    with unwritable(copy), pytest.raises(InputError, match=r"latest episodes.*without write access"):
        TrajectoryStore(copy / "s.sqlite", read_only=True)


def test_a_finished_store_is_one_file_and_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with TrajectoryStore(path) as store:
        for number in range(250):
            store.add(Phase("p"), episode(f"task-{number:03}"))
    with TrajectoryStore(path, read_only=True) as store:
        assert store.count(Phase("p")) == 250
    read = stream_phases(path, ["p"], Notes())
    first = next(read)
    with TrajectoryStore(path) as writer:  # while somebody reads
        writer.add(Phase("p"), episode("task-999"))
        assert len([first, *read]) == 251
    assert list(tmp_path.iterdir()) == [path]


def test_kill_9_loses_nothing_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_store import *\n"
        "store = TrajectoryStore(sys.argv[1])\n"
        "for n in range(100_000):\n    store.add(Phase('p'), episode(f'task-{n:06}')); print(n, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    while child.stdout.readline().strip() != "50":
        assert child.poll() is None, "the writer ended early"
    os.kill(child.pid, signal.SIGKILL)
    reported = 50 + len(child.stdout.read().split())
    child.wait()
    with TrajectoryStore(path) as store:
        # One more may have been committed but not yet told.
        assert store.count(Phase("p")) in (reported + 1, reported + 2)
        assert store.get(Phase("p"))[reported] == episode(f"task-{reported:06}")
        assert store.add(Phase("p"), episode("later"))


def test_threads_share_a_store(tmp_path: Path) -> None:
    with TrajectoryStore(tmp_path / "s.sqlite") as store:

        def fill(name: str) -> None:
            for n in range(20):
                store.add(Phase("p"), episode(f"{name}-{n % 15}"))

        threads = [threading.Thread(target=fill, args=(name,)) for name in "abcd"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert store.count(Phase("p")) == 60


def test_a_full_disk_is_named_and_keeps_what_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[2]); from test_store import *\n"
        "store = TrajectoryStore(sys.argv[1]); store.add(Phase('p'), episode('a'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    for n in range(2000): store.add(Phase('p'), episode(f'b-{n}', action='look ' * 50))\n"
        "except MissingRequirement as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(Path(__file__).parent)], capture_output=True, text=True
    )
    assert str(path) in done.stdout and "free disk space" in done.stdout, done.stderr
    assert MissingRequirement.__name__ not in done.stderr
    with TrajectoryStore(path) as store:
        assert store.count(Phase("p")) > 1 and store.get(Phase("p"))[0] == episode("a")


@pytest.mark.parametrize("content", [b"not a database, but text. " * 100, b"\x00" * 5000])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a trajectory store") as caught:
        TrajectoryStore(path)
    assert caught.value.where == str(path)
    assert path.read_bytes() == content


def test_another_version_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with pytest.raises(InputError, match="no trajectory store"):
        TrajectoryStore(path, read_only=True)
    assert not path.exists()
    TrajectoryStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    content = path.read_bytes()
    with pytest.raises(InputError, match="version 99"):
        TrajectoryStore(path)
    assert path.read_bytes() == content


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot open or write"):
        TrajectoryStore(tmp_path / "file" / "s.sqlite")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with TrajectoryStore(path) as store:
        store.add(Phase("p"), episode("a"))
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE episodes SET record = '{'")
    raw.close()
    with (
        TrajectoryStore(path) as store,
        pytest.raises(InputError, match="phase p, task a, sample 0: the record is damaged"),
    ):
        store.get(Phase("p"))


def test_half_of_a_pair_comes_back_whole(tmp_path: Path) -> None:
    with TrajectoryStore(tmp_path / "s.sqlite") as store:
        assert store.add(Phase("p"), episode("a", action="well done \ud83d"))
        assert store.get(Phase("p"))[0].actions == ("well done \N{REPLACEMENT CHARACTER}",)
