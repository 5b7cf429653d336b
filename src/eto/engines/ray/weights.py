"""Weights on their way to the nodes.

A directory's files go into Ray's object store once for each `load`; Ray carries each of them once to every
node that asks, whatever the number of replicas there. Their content's hash says whether a node has what was
sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors
from eto.environments.hosting.failures import one_line
from eto.errors import EngineFailure

CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Weights:
    """Those of one `load`."""

    directory: Path
    """Where they are for whoever shares the driver's files."""
    content: str
    """Hash of the files' names and bytes."""
    files: tuple[tuple[str, Any], ...] = ()
    """(name, reference to its bytes); empty where nodes read `directory` themselves."""


def content_of(directory: Path) -> str:
    """SHA-256 over the names and bytes of the files in `directory`, in the order of their names."""
    return _hash((path.name, _pieces(path)) for path in files_of(directory))


def files_of(directory: Path) -> list[Path]:
    """The files of a model, in the order of their names; folders and hidden ones are none of it."""
    files = (path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(files, key=lambda path: path.name)


def sent(directory: Path, *, shared: bool) -> Weights:
    """The weights in `directory` as replicas get them; `shared`: by their path alone. Raises `EngineFailure`
    where Ray has no room for them."""
    content = content_of(directory)
    if shared:
        return Weights(directory, content)
    import numpy as np
    import ray

    try:
        files = tuple((path.name, ray.put(np.fromfile(path, np.uint8))) for path in files_of(directory))
    except ray.exceptions.RayError as error:
        raise EngineFailure(
            f"Ray has no room for the weights in {directory}: {one_line(str(error))[:300]}",
            where="rollout.ray",
            hint="free space below /tmp/ray, or raise rollout.ray.object_store_mb",
        ) from error
    return Weights(directory, content, files)


def landed(weights: Weights, directory: Path) -> Path:
    """On a node: where the weights are, written into `directory` unless they are shared. Raises
    `EngineFailure` where they are not those that were sent, `MissingRequirement` where its disk is full."""
    if not weights.files:
        directory = weights.directory
    else:
        import ray

        with disk_errors(directory):
            for name, reference in weights.files:
                (directory / name).write_bytes(memoryview(ray.get(reference)))
    found = content_of(directory) if directory.is_dir() else "no such directory"
    if found != weights.content:
        raise EngineFailure(
            f"a node reads other files in {directory} than this machine",
            where="rollout.ray.weights",
            hint="set it to sent, or see to it that the nodes share this machine's files",
        )
    return directory


def _hash(files: Iterable[tuple[str, Iterable[bytes]]]) -> str:
    total = hashlib.sha256()
    for name, pieces in files:
        each = hashlib.sha256()
        for piece in pieces:
            each.update(piece)
        total.update(f"{name}\0{each.hexdigest()}\0".encode())
    return total.hexdigest()


def _pieces(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece
