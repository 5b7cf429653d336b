"""A run as programs and trackers see it: events on standard output, metrics in TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

from coin_game import write_recipe

from eto.data.files import read_rows

SMALL = {
    "tasks": {"train_per_kind": 8, "dev_per_kind": 4, "test_per_kind": 4},
    "sft": {"epochs": 2, "learning_rate": 2e-3, "batch_size": 4, "schedule": "constant"},
}


def test_events_and_a_tracker_tell_what_the_run_wrote_down(tmp_path: Path, model: Path, command) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    path = write_recipe(tmp_path / "recipe.yaml", model, run, **SMALL)
    asked = ("run", path, "method={name: sft}", "method.sft.epochs=2", "tracking=[tensorboard]")
    events = [json.loads(line) for line in command.succeeds(*asked, "--json").splitlines()]
    assert events[0]["event"] == "begin" and events[-1]["event"] == "end"
    steps = [event for event in events if event["event"] == "progress" and event["stage"] == "sft"]
    assert steps[-1]["done"] == steps[-1]["total"] and steps[-1]["figures"]["loss"] > 0
    played = [event for event in events if event.get("stage") == "evaluate/sft/test"]
    assert played[-1]["done"] == 4 and played[-1]["figures"]["tokens_per_second"] > 0
    figures = events[-1]["results"]["splits"]["test"]["agents"]["sft"]
    assert figures["reward"]["mean"] == played[-1]["figures"]["reward"]

    shown = EventAccumulator(str(run / "tracking" / "tensorboard" / "coin"))
    shown.Reload()
    rows = [row for row in read_rows(run / "metrics.jsonl") if row["stage"] == "sft"]
    assert [event.step for event in shown.Scalars("sft/loss")] == [row["step"] for row in rows]
    assert [event.step for event in shown.Scalars("test/reward")] == [1]

    assert command.succeeds(*asked, "--quiet") == ""
    command.fails(*asked, "--quiet", "--json", says=["give one of the two"])
