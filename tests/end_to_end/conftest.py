"""Fixtures: a small untrained model, and the `eto` command."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an untrained model that can learn the game `coin`."""
    from coin_game import save_model

    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`eto` in this process; see `command.Command`."""
    from coin_game import Command

    return Command(monkeypatch, capsys)
