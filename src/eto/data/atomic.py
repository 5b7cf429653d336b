"""Files and directories that appear whole: written next to their place, then renamed into it.

A kill at any point leaves the old content or the new one. Both context managers raise the `OSError`
of a failed write and leave nothing behind; `eto.data.files.disk_errors` turns it into the user's error.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NUMBERS = itertools.count()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file, open for writing bytes, that replaces `path` when the block ends without an error."""
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, shared: bool = False, within: Path | None = None) -> Iterator[Path]:
    """An empty directory that replaces `path` when the block ends without an error; makes its parents.

    The caller alone writes `path`, or holds a lock, so what a killed writer left is removed first. With
    `shared`, several processes may make the same directory at once: the first one stays, and the others
    discard theirs. `within`: the directory, on the same disk, to make it in; beside `path` where not given.

    While the new directory takes its place there is an instant without one. A kill there leaves the
    old one as `path.old`; `recover` gives it its name back, as does the next `atomic_directory`.
    """
    place = (within or path.parent) / path.name
    if not shared:
        recover(path)
        for left_over in place.parent.glob(f".{path.name}.*.tmp"):
            shutil.rmtree(left_over, ignore_errors=True)
    temporary = _beside(place)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync(temporary)
        if shared:
            _first_stays(temporary, path)
        else:
            _replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover(path: Path) -> None:
    """Finish what a kill in `atomic_directory` left at `path`: restore the old one, or delete it."""
    old = _old(path)
    if old.is_dir() and not path.exists():
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_NUMBERS)}.tmp")


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _replace(made: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A directory cannot be renamed onto one that holds files.
    if path.exists():
        os.rename(path, _old(path))
    os.rename(made, path)
    shutil.rmtree(_old(path), ignore_errors=True)


def _first_stays(made: Path, path: Path) -> None:
    try:
        os.rename(made, path)
    except OSError:
        if not path.is_dir():
            raise


def _sync(directory: Path) -> None:
    """Write the files below `directory` through to the disk, so that a power cut cannot empty them."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
