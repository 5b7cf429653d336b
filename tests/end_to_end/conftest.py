"""Fixtures: a small untrained model, and the `eto` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import eto.evaluation.curve

EMPTY = {"png": b"\x89PNG", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an untrained model that can learn the game `coin`."""
    from coin_game import save_model

    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def painted() -> None:
    """A test that asks for it has the learning curves of its runs painted."""


@pytest.fixture(autouse=True)
def unpainted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere their panels are filled, and neither laid out nor painted: that takes as long as a small
    run's whole training."""

    def pictures(_: object, kinds: Sequence[str]) -> list[bytes]:
        return [EMPTY[kind] for kind in kinds]

    if "painted" not in request.fixturenames:
        monkeypatch.setattr(eto.evaluation.curve, "_pictures", pictures)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`eto` in this process; see `command.Command`."""
    from coin_game import Command

    return Command(monkeypatch, capsys)
