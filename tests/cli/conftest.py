"""Fixtures: the `eto` command."""

from __future__ import annotations

import pytest
from command import Command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`eto` in this process; see `Command`."""
    return Command(monkeypatch, capsys)
