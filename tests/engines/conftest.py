"""A small model that ends its turns, for tests of engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from acting import OBSERVATIONS
from tiny import trajectory


@pytest.fixture(scope="session")
def trained_path(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt to end its turns."""
    from eto.settings import SftSettings
    from eto.training.cloning import sft
    from eto.training.learner import load_learner

    learner = load_learner(tiny_path, dtype="float32")
    actions = ("go north", "open the door", "take the apple", "look around")
    episodes = [
        trajectory(*[(actions[(n + k) % 4], OBSERVATIONS[k]) for k in range(4)], prompt=f"{n}")
        for n in range(6)
    ]
    sft(learner, episodes, SftSettings(epochs=8, learning_rate=4e-3, batch_size=3))
    path = tmp_path_factory.mktemp("trained")
    learner.save(path)
    return path
