"""The real wandb (offline), MLflow (files) and trackio, where they are installed: two starts of one run, then
what each has kept."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from pathlib import Path
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.tracking import tracked
from eto.experiment.watch import Silent
from eto.types import Phase
from tiny import trajectory

name, directory = sys.argv[1:3]
mine = parse_recipe(
    f"name: mine\\nrun_directory: {directory}\\nenvironment: {{name: bandit}}\\n"
    f"tracking: {{trackers: [{name}], episodes: 3, directory: {directory}/../tracks}}\\n"
)
for start in (0, 1):
    with Run.open(mine.directory, mine) as run, tracked(run, Silent()):
        for step in range(1 + 2 * start, 3 + 2 * start):
            run.log("sft", loss=1 / step, step=step, epoch=1 + start)
        run.log("dev", agent=f"sft/epoch-{1 + start}", step=0, reward=0.25 + start / 4, verb="go")
        if start:
            for number in range(9):
                phase = Phase.evaluate("sft", "dev")
                run.store.add(phase, trajectory(("take", "done"), number=number, source="sft", reward=0.5))
            run.log("dev", agent="sft", step=0, reward=0.75)
print("said by the program")
"""


@pytest.fixture
def performed(tmp_path: Path):
    """Two starts with a tracker, in a process of their own: trackio keeps one directory in each."""

    def perform(name: str, run: str = "run") -> tuple[Path, str]:
        pytest.importorskip(name, reason=f"{name} is not installed")
        place = {"WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS / "helpers")])}
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "TRACKIO_"))
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, name, str(tmp_path / run)],
            capture_output=True,
            text=True,
            env=kept | place,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / run / "tracking" / f"{name}.json").read_text())["rows"] == 7
        return tmp_path / "tracks" / name, done.stdout

    return perform


def test_trackio_has_one_run_with_its_recipe_its_steps_and_episodes(performed) -> None:
    tracks, printed = performed("trackio")
    assert printed == "said by the program\n", "standard output carries a run's events"
    performed("trackio", "another")
    with sqlite3.connect(tracks / "eto.db") as store:
        rows = store.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        configs = dict(store.execute("SELECT run_name, config FROM configs").fetchall())
        traces = store.execute("SELECT run_name, step, key, messages, metadata FROM traces").fetchall()
    mine = [(step, json.loads(values)) for name, step, values in rows if name == "mine"]
    assert [step for step, values in mine if "sft/loss" in values] == [1, 2, 3, 4]
    assert [(step, values["dev/reward"]) for step, values in mine if "dev/reward" in values] == [
        *((1, 0.25), (2, 0.5), (3, 0.75))
    ]
    assert sorted(configs) == ["mine", "mine-2"], "a run of another directory is another run"
    assert json.loads(configs["mine"])["environment.name"] == "bandit", "the second start has not replaced it"
    shown = [each for each in traces if each[0] == "mine"]
    assert {(step, key) for _, step, key, _, _ in shown} == {(3, "dev/episodes")}
    assert sorted(json.loads(facts)["task"] for *_, facts in shown) == ["tiny/0", "tiny/3", "tiny/6"]
    assert json.loads(shown[0][3])[2] == {"role": "assistant", "content": "take"}
    assert json.loads(shown[0][4])["reward"] == 0.5


def test_mlflow_has_one_run_with_its_steps(performed) -> None:
    tracks, _ = performed("mlflow")
    [run] = [path.parent for path in tracks.glob("*/*/metrics")]
    losses = [line.split() for line in (run / "metrics" / "sft" / "loss").read_text().splitlines()]
    assert [(int(step), float(value)) for _, value, step in losses] == [(n, 1 / n) for n in (1, 2, 3, 4)]
    of = {path.name: path.read_text().split()[1:] for path in (run / "metrics" / "dev" / "of").iterdir()}
    assert of == {"sft": ["0.75", "3"], "sft.epoch-1": ["0.25", "1"], "sft.epoch-2": ["0.5", "2"]}
    assert (run / "params" / "environment.name").read_text() == "bandit"


def records(path: Path) -> Iterator[Any]:
    """The records of a wandb file: parts in blocks of 32 KiB, each after checksum, length and kind."""
    from wandb.proto import wandb_internal_pb2

    content, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        held += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            yield record


def test_wandb_goes_on_with_the_run_and_its_count_of_steps(performed) -> None:
    tracks, _ = performed("wandb")
    found = [list(records(path)) for path in sorted(tracks.glob("offline-run-*/*.wandb"))]
    assert len(found) == 2, "a file a start, joined by wandb sync"
    names = {(each.run.run_id, each.run.display_name) for file in found for each in file if each.run.run_id}
    assert len(names) == 1 and next(iter(names))[1] == "mine"
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in each.history.item}
        for file in found
        for each in file
        if each.WhichOneof("record_type") == "history"
    ]
    assert [row["_step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [(row["sft/step"], row["sft/loss"]) for row in rows if "sft/loss" in row] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)
    ]
    assert [row["dev/step"] for row in rows if "dev/reward" in row] == [1, 2, 3]
    axes = {each.metric.glob_name: each.metric.step_metric for file in found for each in file}
    assert axes["sft/*"] == "sft/step" and axes["dev/*"] == "dev/step"
