"""Arrays made from episodes, on disk, with the mark of these episodes: those of others are never taken."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eto.data.codec import to_line
from eto.data.files import disk_errors, write_atomic
from eto.errors import InputError
from eto.types import Trajectory

MARK = "made_from"


def mark_of(episodes: Iterable[Trajectory], *besides: object) -> str:
    """A digest of all that is recorded of `episodes`, in their order, and of `besides`."""
    digest = hashlib.sha256(repr(besides).encode())
    for episode in episodes:
        digest.update(to_line(episode).encode() + b"\n")
    return digest.hexdigest()[:16]


def check_mark(path: Path, kept: object, mark: str) -> None:
    """Raises `InputError` where what is in `path` was made from other episodes."""
    if kept != mark:
        raise InputError(
            "what is kept here was made from other episodes",
            where=str(path),
            hint=f"delete {path.parent}; the stage is then done again",
        )


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], mark: str) -> None:
    """Keep `arrays` by name. Raises `MissingRequirement` on a full disk, `InputError` where they cannot be
    written."""
    file = io.BytesIO()
    named: dict[str, Any] = {**arrays, MARK: mark}
    np.savez(file, **named)
    with disk_errors(path):
        write_atomic(path, file.getvalue())


def read_arrays(path: Path, mark: str) -> dict[str, np.ndarray]:
    """The arrays that `write_arrays` kept. Raises `InputError` for those of other episodes."""
    with np.load(path) as kept:
        check_mark(path, str(kept.get(MARK)), mark)
        return {name: kept[name] for name in kept.files if name != MARK}


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """`arrays` under `name` and their numbers, from 0."""
    return {f"{name}{number}": each for number, each in enumerate(arrays)}


def in_order(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Inverse of `numbered`, among arrays of other names."""
    ordered: list[np.ndarray] = []
    while (key := f"{name}{len(ordered)}") in arrays:
        ordered.append(arrays[key])
    return ordered
