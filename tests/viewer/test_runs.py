"""`eto runs`: a line for each run."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import make_run
from typer.testing import CliRunner

from eto.cli import app
from eto.cli.export_model import given_model
from eto.errors import InputError
from eto.viewer.library import Library


def listed(*directories: Path) -> str:
    done = CliRunner().invoke(app, ["runs", *map(str, directories)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_line_for_each_run(run: Path) -> None:
    half, broken = (run.parent / name for name in ("half", "broken"))
    half.mkdir()
    broken.mkdir()
    (half / "recipe.yaml").write_text("name: half\nenvironment: {name: toy}\nmethod: {name: sft}\n")
    (broken / "recipe.yaml").write_text("name: [")
    text = listed(run.parent)
    small = next(line for line in text.splitlines() if line.startswith("| small"))
    assert "| finished | eto | 0 | eto-1 | test | 0.625 [" in small and "| 0.500 [" in small
    assert "| half | stopped | sft | 0 | – | – | – | – | 0.0 s |" in text
    assert "broken: " in text and "recipe.yaml" in text


def test_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no run below" in listed(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no directory `runs` here"):
        listed()
    with pytest.raises(InputError, match="no such directory"):
        listed(tmp_path / "nowhere")


def test_a_recipe_beside_the_runs_is_no_run(tmp_path: Path) -> None:
    """A project's own recipe.yaml, above its runs or beside a model."""
    (tmp_path / "recipe.yaml").write_text("environment: {name: toy}\n")
    make_run(tmp_path / "runs" / "first")
    assert list(Library([tmp_path]).runs()) == ["runs/first"]
    assert given_model(str(tmp_path)).model == str(tmp_path)
