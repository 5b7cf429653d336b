"""Suites named by where their class is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eto.cli import app
from eto.environments import load_suite
from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import InputError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "countdown" / "countdown.py"


@pytest.fixture
def game(tmp_path, monkeypatch):
    """The example by a module name that no other test imports, in the working directory."""
    folder = tmp_path / "games"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "placed_game.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for name in ("placed_game", "games", "games.placed_game"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["games/placed_game.py:Countdown", "games.placed_game:Countdown"])
def test_a_class_plays_in_worker_processes_without_being_installed(game, name):
    suite = load_suite(name)
    task = suite.tasks("train")[0]
    with EnvironmentPool(suite, workers=1) as pool:
        pool.reset(0, task)
        [begun] = pool.poll(60.0)
        assert begun.begun is not None, begun.failure
        assert "Count down from 2" in begun.begun.observation
        pool.step(0, "1")
        [answer] = pool.poll(60.0)
    assert answer.step is not None and answer.step.reward == 0.5


def test_a_command_takes_it(game):
    shown = CliRunner().invoke(
        app, ["environments", "check", "games/placed_game.py:Countdown", "--tasks", "1"]
    )
    assert shown.exit_code == 0, shown.output
    assert "keeps the contract" in shown.output


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("games/nowhere.py:Countdown", "there is no such file", "working directory"),
        ("games/placed_game.py:Countup", "has no Countup", "suites there: Countdown"),
        ("games/placed_game.py:RANGES", "RANGES is no class", "suites there: Countdown"),
        ("games/placed_game.py:", "half of the name is missing", "file.py:Class"),
        ("nowhere:Countdown", "there is no module 'nowhere'", "install the package"),
        (".games:Countdown", "no module's name", "module:Class"),
        ("games/lame.py:Suite", "it imports 'no_such_package'", "install no_such_package"),
        ("games/broken.py:Suite", "ZeroDivisionError", "correct the module"),
        ("games/json.py:Suite", "another module of this name", "rename the file"),
    ],
)
def test_mistakes_are_told(game, name, problem, hint):
    (game / "lame.py").write_text("import no_such_package\n", encoding="utf-8")
    (game / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (game / "json.py").write_text("class Suite: ...\n", encoding="utf-8")
    with pytest.raises(InputError) as told:
        load_suite(name)
    assert problem in told.value.problem
    assert hint in told.value.hint
    assert name in told.value.where
