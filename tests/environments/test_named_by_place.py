"""A suite named by its file or module plays without being installed, in worker processes too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eto.cli import app
from eto.data.formats import read_trajectories
from eto.environments import load_suite
from eto.errors import InputError

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "countdown" / "countdown.py"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a suite in `games/places.py`."""
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "places.py").write_text(SOURCE.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("places", "games", "games.places", "broken", "needs"):
        sys.modules.pop(name, None)


def test_by_file(place: Path):
    done = CliRunner().invoke(
        app, ["expert", "--out", "e.jsonl", "environment.name=games/places.py:Countdown"]
    )
    assert done.exit_code == 0, done.output
    experts = read_trajectories(place / "e.jsonl")
    assert experts and all(each.success for each in experts)


def test_by_module_in_the_working_directory(place: Path):
    done = CliRunner().invoke(app, ["environments", "check", "games.places:Countdown"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("games/none.py:Countdown", "there is no such file"),
        ("games/places.py:Count", "has no class Count"),
        ("games.places:", "names no class"),
        ("no_such_module:Suite", "cannot be imported"),
        ("games/broken.py:Suite", "boom"),
        ("games/json.py:Suite", "another module is called json"),
        ("games/needs.py:Suite", "No module named 'absent_package'"),
    ],
)
def test_what_cannot_be_taken_is_said(place: Path, name: str, says: str):
    (place / "games" / "broken.py").write_text("raise ValueError('boom')\n")
    (place / "games" / "json.py").write_text("class Suite: ...\n")
    (place / "games" / "needs.py").write_text("import absent_package\n")
    with pytest.raises(InputError, match=says) as error:
        load_suite(name)
    assert error.value.hint
