"""The `eto` command in this process, and variables for one in another."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

import eto.cli


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    error: str


class Command:
    """Runs `eto ARGUMENTS` in this process, through the program's own entry point.

    An exception that is not meant for the user comes out as it is and fails the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["eto", *map(str, arguments)])
        self._capsys.readouterr()
        code = 0
        try:
            eto.cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = self._capsys.readouterr()
        return Done(code, captured.out, captured.err)

    def succeeds(self, *arguments: object) -> str:
        """Standard output of a command that must end well."""
        done = self(*arguments)
        assert done.code == 0, done
        return done.out

    def fails(self, *arguments: object, code: int = 2, says: Sequence[str] = ()) -> str:
        """The error message of a command that must end in one clear error."""
        done = self(*arguments)
        assert done.code == code, done
        assert "Traceback" not in done.error + done.out
        assert done.error.startswith("error: "), done
        for part in says:
            assert part in done.error, done.error
        return done.error


def environment_of_child() -> dict[str, str]:
    """Variables for an `eto` in a process of its own: passive waiting, no network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
