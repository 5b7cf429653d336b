"""Room on the disk for saved models and the state of training."""

from __future__ import annotations

import shutil
from pathlib import Path

from eto.errors import MissingRequirement

SPARE = 50_000_000
"""Bytes for tokenizers, trajectories and logs."""
STATE = 2 * 3
"""Training states on the disk, the old and the new one, each of weights and AdamW's two averages."""
LEARNED_STATE = 2 * 17
"""As `STATE`, of weights and the learned optimiser's 16 numbers for each."""


def needed_bytes(whole: int, trained: int, agents: int, state: int = STATE) -> int:
    """Bytes on the disk of a run that saves `agents` models of `whole` bytes and trains `trained` of them:
    with another model while it is being written, and the states from which training is resumed, `state`
    times the trained weights."""
    return whole * (agents + 1) + state * trained + SPARE


def check_room(directory: Path, needed: int) -> None:
    """Raises `MissingRequirement` where the disk of `directory`, which may not exist yet, has less room."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise MissingRequirement(
            f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed to save models and training states",
            where=str(directory),
            hint="free some space, name a directory on another disk, or train adapters (model.lora)",
        )


def directory_bytes(folder: Path) -> int:
    """Bytes of the files in `folder`; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
