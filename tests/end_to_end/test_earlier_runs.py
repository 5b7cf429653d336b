"""Run directories made before recipes named a method (revision 36b6ed0): read, resumed, reported, forked.

`earlier_runs.tar.xz` holds what that revision wrote for two rounds of the game `coin` with a model of 20,000
parameters: `finished`, without the last agent's weights, and `stopped`, killed while the dev tasks were
played after the second epoch of `dpo-1`. Both have the recipe of the other, so what `stopped` becomes is
known.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from coin_game import Command

from eto.data.files import read_json, read_rows
from eto.data.store import TrajectoryStore
from eto.experiment.run_records import read_done
from eto.types import Phase, Trajectory

ARCHIVE = Path(__file__).with_name("earlier_runs.tar.xz")
ROUNDS = [f"{step}-{number}" for number in (1, 2) for step in ("explore", "contrast", "dpo")]
STAGES = ["expert", "sft", "dev-sft", *ROUNDS, "test"]
SECONDS = "checkpoint_seconds=1"  # given to both when they were made


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two runs, their recipes and their model in the working directory."""
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.4 and later ask for a filter.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    monkeypatch.chdir(tmp_path)


def done(run: str) -> dict[str, dict[str, Any]]:
    """Finished stages by name, as their DONE files tell."""
    found = (read_done(path) for path in Path(run, "stages").rglob("DONE"))
    return {stage["stage"]: stage for stage in found}


def metrics(run: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows of metrics.jsonl; fails where a row is there twice."""
    rows = list(read_rows(Path(run, "metrics.jsonl")))
    found = {(row["stage"], row.get("step"), row.get("agent")): row for row in rows}
    assert len(found) == len(rows), "rows are doubled"
    return found


def episodes(run: str, phase: str) -> list[Trajectory]:
    with TrajectoryStore(Path(run, "trajectories.sqlite"), read_only=True) as store:
        return store.get(Phase.parse(phase))


def figures(run: str) -> dict[str, Any]:
    """results.json except for what an earlier version did not write, and times."""
    results = read_json(Path(run, "results.json"))
    later = ("baseline", "behaviour", "bounds", "seconds", "stages")
    return {name: value for name, value in results.items() if name not in later}


def test_a_finished_run_is_reported(command: Command) -> None:
    before = figures("finished")
    Path("finished/results.json").unlink()
    printed = command.succeeds("report", "finished")
    assert figures("finished") == before
    assert read_json(Path("finished/results.json"))["baseline"] == "sft"
    assert "agent minus" in printed and "eto-2" in printed
    assert "agent minus sft" in Path("finished/report.md").read_text()


def test_a_finished_run_stays_as_it_is(command: Command) -> None:
    stages, rows, before = done("finished"), metrics("finished"), figures("finished")
    assert sorted(stages) == sorted(STAGES)
    command.succeeds("run", "finished.yaml", SECONDS)
    assert done("finished") == stages and metrics("finished") == rows and figures("finished") == before


def test_a_finished_run_keeps_its_recipe(command: Command) -> None:
    says = ["another recipe", "method.dpo.beta: 0.1 -> 0.3"]
    command.fails("run", "finished.yaml", SECONDS, "dpo.beta=0.3", says=says)


def test_a_stopped_run_goes_on(command: Command) -> None:
    before, finished = done("stopped"), metrics("finished")
    assert sorted(before) == sorted(STAGES[:5])
    lost = set(finished) - set(metrics("stopped"))
    assert ("dpo-1", 20, None) not in lost, "it was stopped after the last step of dpo-1"
    command.succeeds("run", "stopped.yaml", SECONDS)
    after, rows = done("stopped"), metrics("stopped")
    assert sorted(after) == sorted(STAGES)
    assert {name: after[name] for name in before} == before, "a finished stage was made again"
    assert rows.keys() == finished.keys()
    for key, row in finished.items():
        for name in ("loss", "margin", "reward"):
            if name in row:
                assert rows[key][name] == pytest.approx(row[name], rel=1e-3, abs=1e-4), key
    assert after["dpo-1"]["metrics"].items() >= done("finished")["dpo-1"]["metrics"].items()
    assert figures("stopped")["shipped"] == figures("finished")["shipped"]


def test_a_fork_of_a_finished_run(command: Command) -> None:
    change = ("finished.yaml", "run_directory=fork", "method.iterations=1", "method.dpo.beta=0.3", SECONDS)
    printed = command.succeeds("run", *change, "--from", "finished")
    assert "taken from finished: expert, sft, dev-sft, explore-1, contrast-1\n" in printed
    theirs, ours = done("finished"), done("fork")
    assert all(ours[stage] == theirs[stage] for stage in STAGES[:5])
    assert sorted(ours) == sorted([*STAGES[:6], "test"])
    assert metrics("fork")["dev", 0, "sft"] == metrics("finished")["dev", 0, "sft"]
    for phase in ("expert", "evaluate/sft/dev", "explore/1"):
        assert episodes("fork", phase) == episodes("finished", phase) != []
    first = ("dpo-1", 2, None)
    assert metrics("fork")[first]["margin"] != metrics("finished")[first]["margin"]
    agents = read_json(Path("fork/results.json"))["splits"]["test"]["agents"]
    assert list(agents) == ["sft", "eto-1"]


def test_a_fork_of_a_stopped_run(command: Command) -> None:
    change = ("stopped.yaml", "run_directory=fork", "method.iterations=0", SECONDS)
    printed = command.succeeds("run", *change, "--from", "stopped")
    assert "taken from stopped: expert, sft, dev-sft" in printed
    assert sorted(done("fork")) == ["dev-sft", "expert", "sft", "test"]
