"""A run killed without warning in five stages, and started again each time, ends as an undisturbed one."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from coin_game import environment_of_child, write_recipe

from eto.data.files import read_rows
from eto.data.store import TrajectoryStore
from eto.types import Phase

# Few slots and small batches: the stages last long enough to be hit in their middle.
SLOW = {
    "rollout": {"slots": 2},
    "sft": {"batch_size": 6},
    "dpo": {"batch_size": 2},
}
TASKS = {"train": 48, "dev": 16, "test": 32}


class Start:
    """`python -m eto run RECIPE` in a process of its own."""

    def __init__(self, recipe: Path, log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eto", "run", str(recipe), "checkpoint_seconds=1"],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=environment_of_child(),
            )

    def ends(self) -> str:
        """What it printed, once it has ended well."""
        assert self.process.wait(timeout=180) == 0, self.log.read_text()
        return self.log.read_text()

    def killed_when(self, reached: Callable[[], bool]) -> list[psutil.Process]:
        """Kill it as soon as `reached` holds; returns the processes that were below it."""
        deadline = time.monotonic() + 120
        while not reached():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.005)
        below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        return below


def count(run: Path, phase: str) -> int:
    """Episodes of a phase in the store, read beside the process that writes."""
    path = run / "trajectories.sqlite"
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return db.execute("SELECT COUNT(*) FROM episodes WHERE phase = ?", (phase,)).fetchone()[0]
    except sqlite3.OperationalError:  # it is being created
        return 0


def steps(run: Path, stage: str) -> list[int]:
    path = run / "metrics.jsonl"
    rows = read_rows(path) if path.exists() else []
    return [row["step"] for row in rows if row["stage"] == stage]


def finished(run: Path) -> dict[str, tuple[int, str]]:
    """Every finished stage, with the time and content of its mark."""
    marks = (run / "stages").rglob("DONE")
    return {mark.parent.name: (mark.stat().st_mtime_ns, mark.read_text()) for mark in marks}


def stored(run: Path) -> dict[tuple[str, str, int], str]:
    """Every finished episode by (phase, task, sample)."""
    with closing(sqlite3.connect(run / "trajectories.sqlite")) as db:
        rows = db.execute("SELECT phase, task_id, sample, record FROM episodes WHERE NOT failed").fetchall()
    found = {(phase, task, sample): record for phase, task, sample, record in rows}
    assert len(found) == len(rows)
    return found


def wait_for_end(processes: list[psutil.Process], seconds: float = 15.0) -> list[psutil.Process]:
    """The processes that are still running after at most `seconds`."""

    def running(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if running(p)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.mark.long
@pytest.mark.timeout(420)
def test_a_run_killed_at_five_stages_ends_as_if_nothing_had_happened(tmp_path: Path, model: Path) -> None:
    calm, run = tmp_path / "calm", tmp_path / "run"
    Start(write_recipe(tmp_path / "calm.yaml", model, calm, **SLOW), tmp_path / "calm.log").ends()

    recipe = write_recipe(tmp_path / "recipe.yaml", model, run, **SLOW)
    state = run / "stages" / "sft" / "state" / "step.json"
    moments: dict[str, Callable[[], bool]] = {
        "expert": lambda: count(run, "expert") >= 5,
        "sft": lambda: state.exists() or len(steps(run, "sft")) >= 40,
        "explore-1": lambda: count(run, "explore/1") >= 5,
        "dpo-1": lambda: len(steps(run, "dpo-1")) >= 2,
        "test": lambda: count(run, "evaluate/sft/test") >= 5,
    }
    saved = 0
    marks: dict[str, tuple[int, str]] = {}
    episodes: dict[tuple[str, str, int], str] = {}
    for number, (stage, reached) in enumerate(moments.items()):
        begun = Start(recipe, tmp_path / f"{number}.log")
        below = begun.killed_when(reached)
        assert stage not in finished(run), f"{stage} was over before the kill"
        assert below or stage in ("sft", "dpo-1"), "no worker was running"
        assert wait_for_end(below) == []
        check_kept(marks, finished(run))
        check_kept(episodes, stored(run))
        marks, episodes = finished(run), stored(run)
        if stage == "sft" and state.exists():
            saved = json.loads(state.read_text())["step"]
        elif stage == "explore-1" and saved:
            assert int(re.search(r"sft\s+(\d+)/48", begun.log.read_text())[1]) == saved
    printed = Start(recipe, tmp_path / "last.log").ends()

    check_kept(marks, finished(run))
    check_kept(episodes, stored(run))
    # The stage that was broken off last went on from the episodes it had.
    first_line = re.search(r"evaluate/sft/test\s+(\d+)/32", printed)
    assert int(first_line[1]) == sum(phase == "evaluate/sft/test" for phase, _, _ in episodes)
    assert "loss" not in printed
    check_same(calm, run)


def check_kept(before: dict, after: dict) -> None:
    """Nothing that was there is lost or made again."""
    assert {key: after.get(key) for key in before} == before


def check_same(calm: Path, run: Path) -> None:
    """Two run directories came to the same, and each holds everything once."""
    assert list(finished(calm)) and finished(calm).keys() == finished(run).keys()
    phases = {phase for phase, _, _ in stored(calm)}
    assert phases > {"expert", "explore/1", "evaluate/sft/dev", "evaluate/sft/test", "evaluate/eto-1/test"}
    for phase in phases:
        split = "train" if phase in ("expert", "explore/1") else phase.rpartition("/")[2]
        assert count(run, phase) == count(calm, phase) == TASKS[split], phase
    for phase in phases:
        with (
            TrajectoryStore(calm / "trajectories.sqlite") as one,
            TrajectoryStore(run / "trajectories.sqlite") as other,
        ):
            assert [(t.task.id, t.actions, t.reward) for t in one.get(Phase.parse(phase))] == [
                (t.task.id, t.actions, t.reward) for t in other.get(Phase.parse(phase))
            ], phase

    pairs = Path("stages/contrast-1/pairs.jsonl")
    assert without_log_probs(calm / pairs) == without_log_probs(run / pairs) != ""
    count_of_pairs = len((run / pairs).read_text().splitlines())
    assert steps(run, "sft") == list(range(1, 6 * TASKS["train"] // 6 + 1))
    assert steps(run, "dpo-1") == list(range(1, 2 * math.ceil(count_of_pairs / 2) + 1))
    for one, other in zip(rows(calm), rows(run), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-4)
            assert other[key] == same, (one, other)

    results = [json.loads((place / "results.json").read_text()) for place in (calm, run)]
    for key in ("splits", "explored", "shipped", "guard"):
        assert results[0][key] == results[1][key], key


def without_log_probs(pairs: Path) -> str:
    """The file, except for what depends, by rounding, on who was decoded beside."""
    return re.sub(r', "log_probs": \[[^]]*\]', "", pairs.read_text())


def rows(run: Path) -> list[dict]:
    """metrics.jsonl without what the clock decides."""
    return [
        {key: value for key, value in row.items() if key != "tokens_per_second"}
        for row in read_rows(run / "metrics.jsonl")
    ]
