"""The state of training on disk: weights under training, optimiser state, and the step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from eto.data.atomic import atomic_directory, recover
from eto.data.files import disk_errors, read_json, write_json
from eto.errors import InputError
from eto.training.example import Example
from eto.training.state import read_moments, read_weights


@dataclass(frozen=True, slots=True)
class Progress:
    """How far training is."""

    step: int = 0
    stopped: bool = False
    """Whether it was asked to stop there."""
    training: str = ""
    """Fingerprint of what is trained on, and how."""


def save_state(directory: Path, progress: Progress, write: Callable[[Path], None]) -> None:
    """Replace the state in `directory` by what `write` puts into the directory it is given.

    Raises `MissingRequirement` on a full disk, `InputError` where it cannot be written; the old state then
    stays."""
    state = directory / "state"
    with disk_errors(state), atomic_directory(state) as fresh:
        write(fresh)
        write_json(fresh / "step.json", asdict(progress))


def load_state(
    directory: Path | None, training: str, model: Any, optimiser: torch.optim.Optimizer | None
) -> Progress:
    """Take the newest complete state into `model` and `optimiser`; returns how far it is.

    optimiser: None: that of other processes, which read its state themselves.

    Raises `InputError` for a state that is damaged, or of other data or settings than `training`.
    """
    if directory is None:
        return Progress(training=training)
    state = directory / "state"
    recover(state)
    if not (state / "step.json").exists():
        return Progress(training=training)
    progress = Progress(**read_json(state / "step.json"))
    if progress.training != training:
        raise InputError(
            "the state here is of a training on other data or with other settings",
            where=str(state),
            hint="resume with the same data and settings, or delete it to train again",
        )
    with damage_named(state, RuntimeError):
        read_weights(state, model)
        if optimiser is not None:
            read_moments(state, model, optimiser)
    return progress


@contextmanager
def damage_named(state: Path, *more: type[Exception]) -> Iterator[None]:
    """A block that reads the state in `state`. Raises `InputError` where that is damaged. `more`: errors that
    say so besides; `RuntimeError` may also mean that another process is gone, where there are several."""
    signs: tuple[type[Exception], ...] = (SafetensorError, EOFError, KeyError, ValueError, OSError, *more)
    try:
        yield
    except signs as error:
        fault = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the state of training cannot be read: {fault}",
            where=str(state),
            hint="delete this directory; the training then begins again",
        ) from error


def fingerprint(examples: Iterable[Example], *settings: object) -> str:
    """A digest of what is trained on, token by token and weight by weight, and of `settings`."""
    digest = hashlib.sha256(repr(settings).encode())
    for example in examples:
        tree = example.tree
        digest.update(repr((example.size, len(tree), [len(path) for path in tree.paths])).encode())
        arrays = [tree.ids, tree.ends, *example.weights]
        arrays += [array for leaf in tree.leaves for array in (leaf.sources, leaf.targets)]
        for array in arrays:
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
