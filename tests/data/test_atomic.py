"""Atomic files and directories: the old content or the new one, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eto.data.atomic import atomic_directory, atomic_file, recover


def test_a_file_appears_whole(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_file_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def filled(path: Path, text: str, **options: bool) -> None:
    with atomic_directory(path, **options) as fresh:
        assert list(fresh.iterdir()) == []
        (fresh / "inner").mkdir()
        (fresh / "inner" / "a.txt").write_text(text)


def content(path: Path) -> str:
    return (path / "inner" / "a.txt").read_text()


def test_a_directory_appears_whole_and_replaces_another(tmp_path: Path):
    path = tmp_path / "parent" / "d"
    filled(path, "old")
    (path / "stale.txt").write_text("of the old one")
    filled(path, "new")
    assert content(path) == "new"
    assert os.listdir(path) == ["inner"]
    assert os.listdir(path.parent) == ["d"]


def test_a_failed_directory_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "d"
    filled(path, "old")
    with pytest.raises(RuntimeError), atomic_directory(path) as fresh:
        (fresh / "a.txt").write_text("new")
        raise RuntimeError
    assert content(path) == "old"
    assert os.listdir(tmp_path) == ["d"]


def test_what_a_kill_left_goes(tmp_path: Path):
    path = tmp_path / "d"
    (tmp_path / ".d.12.34.tmp").mkdir()
    (tmp_path / ".other.12.34.tmp").mkdir()
    filled(path, "new")
    assert sorted(os.listdir(tmp_path)) == [".other.12.34.tmp", "d"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_between_the_renames_costs_nothing(tmp_path: Path, renames: int):
    """The process dies instead of its next rename, or of the removal after the last."""
    path = tmp_path / "d"
    filled(path, "old")
    code = f"""
import os, shutil, sys
from pathlib import Path
from eto.data.atomic import atomic_directory
real, left = os.rename, [{renames}]
def rename(*args):
    if not left[0]:
        os._exit(9)
    left[0] -= 1
    real(*args)
with atomic_directory(Path(sys.argv[1])) as fresh:
    (fresh / "inner").mkdir()
    (fresh / "inner" / "a.txt").write_text("new")
    os.rename = rename
    shutil.rmtree = lambda *args, **options: os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert done.returncode == 9
    recover(path)
    assert content(path) == ("new" if renames == 2 else "old")
    filled(path, "newest")
    assert content(path) == "newest"
    assert os.listdir(tmp_path) == ["d"]


def test_of_two_shared_writers_the_first_stays(tmp_path: Path):
    path = tmp_path / "d"
    with atomic_directory(path, shared=True) as fresh:
        (fresh / "a.txt").write_text("second")
        filled(path, "first", shared=True)
    assert content(path) == "first"
    assert os.listdir(tmp_path) == ["d"]


def test_a_shared_writer_says_why_it_cannot(tmp_path: Path):
    path = tmp_path / "d"
    path.write_text("a file")
    with pytest.raises(OSError):
        filled(path, "new", shared=True)
    assert os.listdir(tmp_path) == ["d"]


def test_a_directory_is_made_elsewhere_where_asked(tmp_path: Path):
    path = tmp_path / "stages" / "d"
    with atomic_directory(path, within=tmp_path) as fresh:
        assert fresh.parent == tmp_path
        (fresh / "a.txt").write_text("new")
    assert os.listdir(tmp_path) == ["stages"] and os.listdir(path) == ["a.txt"]
