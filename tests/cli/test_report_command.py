"""`eto report` and `eto show` of whole, pooled and damaged runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eto.cli import app
from eto.errors import EtoError, InputError
from tests.viewer.conftest import make_run


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "small")


def cut(run: Path) -> None:
    """Take the second half of the store away."""
    store = run / "trajectories.sqlite"
    with store.open("r+b") as file:
        file.truncate(store.stat().st_size // 2)


def rename_method(run: Path) -> None:
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: eto", "name: later_method"))


def test_several_runs_as_pages_and_as_a_table(run: Path, tmp_path: Path) -> None:
    other, page = make_run(tmp_path / "other"), tmp_path / "all.html"
    text = printed("report", run, other, "--html", page, "--episodes", 1)
    assert "2 runs of" in text and "| over tasks and seeds |" in text and str(page) in text
    assert "2 runs of small" in page.read_text(encoding="utf-8")
    assert not (run / "report.html").exists(), "nothing is written into the runs"
    for wrong, says in (
        (page, "--overwrite"),
        (tmp_path / "all.md", "promises"),
        (run / "a.html", "is read"),
    ):
        with pytest.raises(InputError, match=says):
            printed("report", run, other, "--html", wrong)
    printed("report", run, "--against", other, "--html", page, "--overwrite")
    assert "agent minus that of other" in page.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="named twice"):
        printed("report", run, run)
    with pytest.raises(InputError, match="report of one run"):
        printed("report", run, other, "--format", "csv")


def test_pages_of_one_run_elsewhere(run: Path, tmp_path: Path) -> None:
    printed("report", run, "--html", tmp_path / "one.html", "--format", "md")
    assert (tmp_path / "one.html").is_file() and (run / "report.md").is_file()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("damage", "says", "shows"),
    [(cut, "the episodes cannot be read", "<polyline"), (rename_method, "later_method", "2 gained")],
)
def test_of_a_damaged_run_the_pages_are_written(run: Path, damage, says: str, shows: str) -> None:
    damage(run)
    with pytest.raises(EtoError, match=says):
        printed("report", run)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert says in text and shows in text
    assert not (run / "results.json").exists(), "figures of a part of the tasks would be others"


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.yaml").write_text("name: begun\nseed: 3\nenvironment: {name: toy}\n")
    printed("report", begun)
    text = (begun / "report.md").read_text()
    assert "seed 3" in text and "hardware not known" in text and "None" not in text
    with pytest.raises(InputError, match="no run"):
        printed("report", tmp_path)


def test_episodes_of_a_damaged_run_are_shown(run: Path) -> None:
    rename_method(run)
    text = printed("show", run)
    assert "| test, beside sft | gained |" in text and "| eto-1 | 2 | 1 |" in text
    assert "not all of this run can be read: the recipe" in text and "later_method" in text


def test_of_a_store_that_was_cut_off_the_beginning_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "long", 60)
    cut(run)
    text = printed("show", run, "--outcome", "lost")
    assert "=== toy/find/" in text and "some of the episodes cannot be read" in text
    assert text.count("can be read") == 1, "one damage is told once"


@pytest.fixture
def locked(run: Path) -> Iterator[Path]:
    """A run that may be read alone."""
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    run.chmod(0o555)
    yield run
    run.chmod(0o755)


def test_a_run_that_may_not_be_written(locked: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in locked.iterdir())
    assert "| eto-1 | 2 | 1 |" in printed("show", locked)
    with pytest.raises(InputError, match="--html FILE"):
        printed("report", locked)
    text = printed("report", locked, "--html", tmp_path / "one.html")
    assert "nothing else is written" in text and "0.625" in text and (tmp_path / "one.html").is_file()
    assert sorted(path.name for path in locked.iterdir()) == before
