"""One line a stage: what, how far, how long still, and the current reward or loss."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich import progress as bars
from rich.console import Console

from eto.cli.terminal import terminal
from eto.data.texts import shown

LINE_SECONDS = 10.0
"""Between two lines where the output is not a terminal."""


class Progress:
    """Shows one stage at a time: a live bar on a terminal, now and then a line elsewhere.

    Used as a context manager: a live bar left open hides the terminal's cursor and
    overwrites the error message that comes after it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or terminal()
        self._shown: _Live | _Lines | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """`stage` has finished `done` of `total`; `figures` are shown beside it."""
        if self._shown is None or stage != self._shown.stage:
            self.close()
            self._shown = (_Live if self.console.is_terminal else _Lines)(self.console, stage, done)
        self._shown.update(done, total, beside(figures))
        if done == total:
            self.close()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.close()
        self.console.print(text, soft_wrap=True)

    def close(self) -> None:
        """End the stage that is shown; its last state stays."""
        if self._shown is not None:
            self._shown.close()
        self._shown = None


def beside(figures: Mapping[str, Any]) -> str:
    """Figures as text, a reward with its interval: `reward 0.512 [0.43, 0.59]  loss 0.310`."""
    low, high = figures.get("low"), figures.get("high")
    parts = []
    for name, value in figures.items():
        if name in ("low", "high"):
            continue
        interval = f" [{low:.2f}, {high:.2f}]" if name == "reward" and low is not None else ""
        parts.append(f"{name.replace('tokens_per_second', 'tokens/s')} {_number(value)}{interval}")
    return "  ".join(parts)


class _Live:
    """A stage on a terminal."""

    def __init__(self, console: Console, stage: str, done: int) -> None:
        self.stage = stage
        columns = (
            bars.TextColumn("{task.description:<22}", markup=False),
            bars.MofNCompleteColumn(),
            bars.BarColumn(bar_width=20),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[beside]}", markup=False),
        )
        self._bars = bars.Progress(*columns, console=console, refresh_per_second=4)
        # Done before now, in an earlier process: that tells nothing about the speed.
        self._bar = self._bars.add_task(shown(stage, line=True), completed=done, total=None, beside="")
        self._bars.start()

    def update(self, done: int, total: int, beside: str) -> None:
        self._bars.update(self._bar, completed=done, total=total, beside=beside)

    def close(self) -> None:
        self._bars.stop()


class _Lines:
    """A stage in a file or a pipe."""

    def __init__(self, console: Console, stage: str, done: int) -> None:
        self.stage, self._console, self._first = stage, console, done
        self._begun = time.monotonic()
        self._printed = self._begun - LINE_SECONDS

    def update(self, done: int, total: int, beside: str) -> None:
        now = time.monotonic()
        if done < total and now - self._printed < LINE_SECONDS:
            return
        spent, made = now - self._begun, done - self._first
        left = f"{clock(spent / made * (total - done))} left" if made > 0 and done < total else ""
        head = f"{shown(self.stage, line=True):<22} {done:>4}/{total:<4} {clock(spent)}"
        self._console.print(f"{head}  {left:<10}  {beside}", soft_wrap=True)
        self._printed = now

    def close(self) -> None:
        """Nothing is open."""


def clock(seconds: float) -> str:
    """Minutes and seconds: `12:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return shown(value, line=True)
