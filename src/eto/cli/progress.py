"""One line a stage: what, how far, how long still, and the current reward or loss."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eto.cli.terminal import terminal
from eto.data.texts import shown

LINE_SECONDS = 10.0
"""Between two lines where the output is not a terminal."""
WIDE = 100
"""Columns from which there is room for a bar."""


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
        self._shown.update(done, total, figures)
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


@dataclass
class Row:
    """What is known of a stage, or of a phase of one."""

    first: int
    """Done in an earlier process: that tells nothing about the speed."""
    begun: float
    done: int = 0
    total: int = 0
    ended: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def update(self, done: int, total: int, figures: Mapping[str, Any]) -> None:
        self.done, self.total, self.figures = done, total, figures or self.figures
        if done == total:
            self.ended = self.ended or time.monotonic()

    def spent(self) -> float:
        return (self.ended or time.monotonic()) - self.begun

    def left(self) -> str:
        made = self.done - self.first
        if self.ended is not None or made <= 0:
            return ""
        return f"{clock(self.spent() / made * (self.total - self.done))} left"


def as_grid(rows: Iterable[tuple[str, Row]], width: int) -> Table:
    """A line for each stage, and more where its name or its figures need them in a terminal of `width`."""
    wide = width >= WIDE
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=26, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    if wide:
        table.add_column(width=16)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, row in rows:
        bar = [ProgressBar(row.total or None, row.done, width=16)] if wide else []
        figures = "  ".join(filter(None, (row.left(), beside(row.figures))))
        style = "dim" if row.ended is not None else ""
        table.add_row(
            Text(shown(name, line=True), style=style or "bold"),
            Text(f"{row.done}/{row.total}", style=style),
            *bar,
            Text(clock(row.spent()), style=style),
            Text(figures, style=style),
        )
    return table


class _Live:
    """A stage on a terminal."""

    def __init__(self, console: Console, stage: str, done: int) -> None:
        self.stage, self._console = stage, console
        self._row = Row(done, time.monotonic())
        self._live = Live(self, console=console, refresh_per_second=4)
        self._live.start()

    def update(self, done: int, total: int, figures: Mapping[str, Any]) -> None:
        self._row.update(done, total, figures)

    def close(self) -> None:
        self._live.stop()

    def __rich__(self) -> Table:
        return as_grid([(self.stage, self._row)], self._console.width)


class _Lines:
    """A stage in a file or a pipe."""

    def __init__(self, console: Console, stage: str, done: int) -> None:
        self.stage, self._console, self._first = stage, console, done
        self._begun = time.monotonic()
        self._printed = self._begun - LINE_SECONDS

    def update(self, done: int, total: int, figures: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if done < total and now - self._printed < LINE_SECONDS:
            return
        spent, made = now - self._begun, done - self._first
        left = f"{clock(spent / made * (total - done))} left" if made > 0 and done < total else ""
        head = f"{shown(self.stage, line=True):<22} {done:>4}/{total:<4} {clock(spent)}"
        self._console.print(f"{head}  {left:<10}  {beside(figures)}", soft_wrap=True)
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
