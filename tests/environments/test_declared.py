"""Environments that another package declares, and the `eto environments` command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eto.cli import app
from eto.environments import load_suite, suite_names
from eto.errors import InputError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "countdown"


def declare(folder: Path, package: str, entry: str) -> None:
    """As pip leaves an installed package behind."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(f"[eto.environments]\n{entry}\n", encoding="utf-8")


@pytest.fixture
def countdown(tmp_path, monkeypatch):
    """The example as an installed package, by another name: it may be installed by its own too."""
    shutil.copy(EXAMPLE / "countdown.py", tmp_path)
    declare(tmp_path, "descent-game", "descent = countdown:Countdown")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["environments", *arguments])


def test_the_examples_own_test_passes():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_countdown.py"]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_declared_environment_loads_by_name(countdown):
    assert suite_names()["descent"] == "descent-game"
    assert len(load_suite("descent").tasks("train")) == 4
    with pytest.raises(InputError, match="unknown option"):
        load_suite("descent", speed=3)


def test_the_list_tells_what_is_there(countdown):
    shown = invoke()
    assert shown.exit_code == 0
    assert "descent (from descent-game)\n    tasks: 4 train, 2 dev, 2 test" in shown.output
    assert "scienceworld\n" in shown.output
    assert "webshop\n" in shown.output


def test_checking_passes_a_good_one_and_fails_a_bad_one(countdown):
    good = invoke("check", "descent", "--tasks", "2")
    assert good.exit_code == 0, good.output
    assert "keeps the contract, checked on 2 tasks" in good.output
    declare(countdown, "counting-game", "counting = counting:Counting")
    bad = invoke("check", "counting", "fault=leak")
    assert bad.exit_code == 1
    assert "breach: counting/" in bad.output


def test_mistakes_are_told(countdown):
    declare(countdown, "gone", "gone = no_such_module:Suite")
    with pytest.raises(InputError, match="cannot be imported"):
        load_suite("gone")
    assert "gone (from gone)\n    cannot be loaded" in invoke().output
    declare(countdown, "second", "descent = countdown:Countdown")
    with pytest.raises(InputError, match="is declared by descent-game, second"):
        load_suite("descent")
    assert isinstance(invoke("check", "scienceworld", "kinds").exception, InputError)
