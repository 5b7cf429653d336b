"""One line a stage: what, how far, how long still, and the current reward or loss."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from eto.cli.terminal import terminal
from eto.texts import shown

LINE_SECONDS = 10.0
"""Between two lines where the output is not a terminal."""


class Progress:
    """Shows one stage at a time: a live line on a terminal, now and then a line elsewhere.

    Used as a context manager: a live line left open hides the terminal's cursor and
    overwrites the error message that comes after it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or terminal()
        self._stage = ""
        self._live: Live | None = None
        self._begun = self._printed = self._heard = 0.0
        self._first = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """`stage` has finished `done` of `total`; `figures` are shown beside it."""
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._begun, self._first = stage, now, done
            self._printed = now - LINE_SECONDS
        line = self._line(stage, done, total, now, figures)
        if self.console.is_terminal:
            if self._live is None:
                self._live = Live(console=self.console, refresh_per_second=4, transient=False)
                self._live.start()
            self._live.update(line)
        elif done == total or now - self._printed >= LINE_SECONDS:
            self.console.print(line, soft_wrap=True)
            self._printed = now
        if done == total:
            self.close()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.close()
        self.console.print(text, soft_wrap=True)

    def close(self) -> None:
        """End the live line; it stays as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._stage = ""

    def _line(self, stage: str, done: int, total: int, now: float, figures: dict[str, Any]) -> Text:
        spent = now - self._begun
        made = done - self._first
        left = f"{_clock(spent / made * (total - done))} left" if made > 0 and done < total else ""
        beside = "  ".join(f"{name} {_number(value)}" for name, value in figures.items())
        text = Text(f"{shown(stage, line=True):<22} {done:>4}/{total:<4} {_clock(spent)}")
        text.append(f"  {left:<10}", style="dim")
        text.append(f"  {beside}")
        return text


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _number(value: Any) -> str:
    return (
        f"{value:.3f}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else shown(value, line=True)
    )
