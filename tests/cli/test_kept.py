"""Episodes of a command, kept beside its output until it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import trajectory

from eto.cli.kept import Kept, command_of
from eto.errors import RunConflict
from eto.experiment.recipe import parse_recipe
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
