"""The entry point: user errors become one message and an exit code, faults keep their traceback."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from eto.cli.commands import app
from eto.cli.stopping import INTERRUPTED, end_at_once_from_now, stoppable, stopping
from eto.data.texts import shown
from eto.errors import EtoError


def _as_note(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What this package warns of is for its user, not for a programmer."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        return f"note: {shown(message)}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def main() -> None:
    """Entry point: user errors become one message and an exit code, faults keep their traceback."""
    from eto.cli.streams import standard_streams
    from eto.runtime import quiet_libraries

    quiet_libraries()
    warnings.formatwarning = _as_note
    with standard_streams(), stoppable():
        sys.exit(_exit_code())


def _exit_code() -> int | str | None:
    from eto.cli.streams import flush_output

    try:
        try:
            app(prog_name="eto")  # not `python -m eto`, of which no shell completes the words
        finally:
            flush_output()
    except EtoError as error:
        _warn(f"error: {error}")
        return error.exit_code
    except SystemExit as end:
        if end.code != INTERRUPTED:  # typer's own end after Ctrl-C, and after what is made like it
            return end.code
        _warn(stopping.farewell())
        end_at_once_from_now()
        return stopping.exit_code()
    return 0


def _warn(text: str) -> None:
    from eto.cli.terminal import warn

    warn(text)
