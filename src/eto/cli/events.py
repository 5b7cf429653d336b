"""A run as JSON lines on standard output, for programs: one event a line."""

from __future__ import annotations

import json
import time
from typing import Any

from eto.cli.terminal import terminal
from eto.data.files import finite

PROGRESS_SECONDS = 1.0
"""Between two events of a stage's progress; its first and its last always come."""


class Events:
    """Watches a run and writes what it sees. Each event has `event`, its kind, and `time`, in seconds since
    1970; the fields of the kinds stand in docs/commands.md."""

    def __init__(self) -> None:
        self._stage, self._written = "", 0.0

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """An event `progress`, unless one of the stage has just been written."""
        now = time.monotonic()
        if stage == self._stage and done < total and now - self._written < PROGRESS_SECONDS:
            return
        self._stage, self._written = stage, now
        self.write("progress", stage=stage, done=done, total=total, figures=figures)

    def say(self, text: str) -> None:
        """An event `message`."""
        self.write("message", text=text)

    def write(self, event: str, **fields: Any) -> None:
        """An event of any kind."""
        line = json.dumps(finite({"event": event, "time": round(time.time(), 3), **fields}), allow_nan=False)
        terminal().print(line, soft_wrap=True)
