"""A run whose training stages are two processes each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from coin_game import RECIPE, environment_of_child, write_recipe

from eto.data.files import read_json, read_rows
from eto.evaluation import build_results
from eto.experiment.run_records import read_done

SMALL = {"train_per_kind": 16, "dev_per_kind": 4, "test_per_kind": 4}
CLONING = {"epochs": 3}
NAMES = ("loss", "grad_norm", "learning_rate", "step")


def _rows(run: Path, stage: str) -> list[dict[str, float]]:
    rows = read_rows(run / "metrics.jsonl", "stage")
    return [{name: row[name] for name in NAMES} for row in rows if row["stage"] == stage]


def test_training_stages_run_as_two_processes(tmp_path: Path, model: Path, command) -> None:
    """From cloning to the report; cloning's losses and gradients are those of one process."""
    before = set(psutil.Process().children(recursive=True))
    two = write_recipe(
        tmp_path / "two.yaml",
        model,
        tmp_path / "two",
        tasks=SMALL,
        train={"processes": 2},
        sft=CLONING,
        explore={"samples": 4, "temperature": 1.0},
        dpo={"epochs": 1},
    )
    command.succeeds("run", two)
    shown = set(build_results(tmp_path / "two")["splits"]["test"]["agents"])
    assert shown == {"sft", "eto-1"}
    assert read_done(tmp_path / "two" / "stages" / "dpo-1" / "DONE")["metrics"]["tokens"] > 0
    assert not list((tmp_path / "two").rglob("weights-*")) + list((tmp_path / "two").rglob("state"))
    assert set(psutil.Process().children(recursive=True)) <= before, "no process is left"

    cloning = {"name": "sft", "sft": RECIPE["method"]["sft"] | CLONING}
    one = write_recipe(tmp_path / "one.yaml", model, tmp_path / "one", tasks=SMALL)
    command.succeeds("run", one, f"method={json.dumps(cloning)}")
    expected, found = _rows(tmp_path / "one", "sft"), _rows(tmp_path / "two", "sft")
    assert len(expected) > 2
    assert found == [pytest.approx(row, rel=1e-5, abs=1e-5) for row in expected]


@pytest.mark.long
def test_a_stopped_training_leaves_no_process_and_is_resumed_by_one(
    tmp_path: Path, model: Path, command
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", tasks=SMALL)
    cloning = {"name": "sft", "sft": RECIPE["method"]["sft"] | {"epochs": 40, "batch_size": 2}}
    changes = [f"method={json.dumps(cloning)}", "checkpoint_seconds=1"]
    state = tmp_path / "run" / "stages" / "sft" / "state" / "step.json"
    log = tmp_path / "log"
    with log.open("wb") as out:
        arguments = [sys.executable, "-m", "eto", "run", str(recipe), *changes, "train.processes=2"]
        child = subprocess.Popen(arguments, stdout=out, stderr=out, env=environment_of_child())
    deadline = time.monotonic() + 300
    while not state.exists():
        assert child.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    below = psutil.Process(child.pid).children(recursive=True)
    assert len(below) >= 3  # torchrun and two ranks
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 128 + signal.SIGTERM, log.read_text()
    assert not psutil.wait_procs(below, timeout=10)[1], "processes are left"
    assert "stopped; the same command resumes" in log.read_text()
    taken = read_json(state)["step"]
    assert 0 < taken < 320
    command.succeeds("run", recipe, *changes)
    assert [row["step"] for row in _rows(tmp_path / "run", "sft")] == list(range(1, 321))
