"""Episodes of a command, kept beside its output until it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import trajectory

from eto.cli.kept import Kept, KeptTraining, command_of, contents_of, stopped_writing
from eto.errors import RunConflict
from eto.experiment.recipe import parse_recipe
from eto.training.loop import StepResult
from eto.types import Phase

RECIPE = "name: command\nenvironment: {name: countdown}\n"


def begun(out: Path, command: dict[str, object]) -> Path:
    """A command that stops after one episode."""
    with Kept(out, command) as kept:
        kept.store.add(Phase("train"), trajectory(("look", "a cup")))
    return kept.directory


def test_the_same_command_resumes_and_another_is_refused(tmp_path):
    out = tmp_path / "out.jsonl"
    directory = begun(out, {"seed": 0, "explore": {"samples": 1}})
    with pytest.raises(RunConflict, match=r"another command(?s:.*)explore.samples: 1 -> 2"):
        Kept(out, {"seed": 0, "explore": {"samples": 2}})
    with Kept(out, {"seed": 0, "explore": {"samples": 1}}) as kept:
        assert len(kept.store.get(Phase("train"))) == 1
        with pytest.raises(RunConflict, match="in use by pid"):
            Kept(out, {"seed": 0, "explore": {"samples": 1}})
        kept.finish()
    assert not directory.exists()


def test_overwriting_drops_what_another_command_began(tmp_path):
    out = tmp_path / "out.jsonl"
    begun(out, {"seed": 0})
    with Kept(out, {"seed": 1}, overwrite=True) as kept:
        assert kept.store.get(Phase("train")) == []
    begun(out, {"seed": 1})
    with Kept(out, {"seed": 1}, overwrite=True) as kept:
        assert len(kept.store.get(Phase("train"))) == 1, "its own is resumed"


def test_nothing_to_resume_leaves_nothing(tmp_path):
    with Kept(tmp_path / "out.jsonl", {"seed": 0}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_decides_the_episodes_makes_the_command(tmp_path):
    def command(*overrides: str, model: str | None = None):
        return command_of("explore", "train", parse_recipe(RECIPE, overrides, source="test"), model)

    plain = command()
    assert (
        command("environment.workers=5", "method.dpo.beta=0.3", "name=other", "tasks.dev_per_kind=3") == plain
    )
    for change in (
        "seed=1",
        "method.explore.temperature=0.5",
        "tasks.train_per_kind=3",
        "model.dtype=float32",
    ):
        assert command(change) != plain
    (tmp_path / "config.json").write_text("{}")
    model = command(model=str(tmp_path))
    (tmp_path / "config.json").write_text("{ }")
    assert command(model=str(tmp_path)) != model, "the weights may have changed"


def test_a_row_that_a_kill_broke_off_is_written_again(tmp_path):
    out = tmp_path / "out"
    step = StepResult(1, 3, 1, {"loss": 0.5})
    with KeptTraining(out, {"seed": 0}) as kept:
        kept.log("sft", step)
        kept.metrics.write_text(kept.metrics.read_text() + '{"stage": "sft", "st')
        (kept.directory / "state").mkdir()
        (kept.directory / "state" / "step.json").write_text("{}")
    with KeptTraining(out, {"seed": 0}) as kept:
        kept.log("sft", step)
        kept.log("sft", replace(step, step=2))
        rows = [json.loads(line) for line in kept.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def test_what_stands_there_is_its_own_only_of_the_command_that_was_writing(tmp_path):
    out, command = tmp_path / "out.jsonl", {"seed": 0}
    begun(out, command)
    assert not stopped_writing(out, command)
    with Kept(out, command) as kept:
        kept.write()
    assert stopped_writing(out, command) and not stopped_writing(out, {"seed": 1})
    with Kept(out, command) as kept:
        kept.finish()
    assert not stopped_writing(out, command)


def test_a_data_set_in_a_directory_is_told_by_its_content(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.arrow").write_text("one")
    before = contents_of({"expert": tmp_path / "data", "rehearsal": None})
    (tmp_path / "data" / "a.arrow").write_text("two")
    assert before.keys() == {"expert"} and contents_of({"expert": tmp_path / "data"}) != before
