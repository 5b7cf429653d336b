"""One line a stage: what, how far, how long still, and the current reward or loss."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
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
_BAR = 16
_LONGEST_NAME = 26
_LEAST_ROOM = 36
"""Columns that figures need beside their stage."""


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
    return "  ".join(parts_beside(figures))


def parts_beside(figures: Mapping[str, Any]) -> list[str]:
    """Each of the figures as text."""
    low, high = figures.get("low"), figures.get("high")
    parts = []
    for name, value in figures.items():
        if name in ("low", "high"):
            continue
        interval = f" [{low:.2f}, {high:.2f}]" if name == "reward" and low is not None else ""
        parts.append(f"{name.replace('tokens_per_second', 'tokens/s')} {_number(value)}{interval}")
    return parts


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


def as_grid(rows: Sequence[tuple[str, Row]], width: int) -> Table | Group:
    """A line for each stage, and more where its name or its figures need them in a terminal of `width`; a
    figure stays beside its name. On a narrow one the figures stand below."""
    names = [shown(name, line=True) for name, _ in rows]
    counts = [f"{row.done}/{row.total}" for _, row in rows]
    bar = _BAR + 1 if width >= WIDE else 0
    named = min(_LONGEST_NAME, max(map(cell_len, names), default=0))
    room = (
        width - named - max(map(len, counts), default=0) - bar - max(len(_clock(row)) for _, row in rows) - 4
    )
    if room < _LEAST_ROOM:
        lines = [line for each in zip(names, counts, rows, strict=True) for line in _below(*each, width)]
        return Group(*lines)
    table = Table.grid(padding=(0, 1))
    table.add_column(width=named, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    if bar:
        table.add_column(width=_BAR)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=room, overflow="fold")
    for name, count, (_, row) in zip(names, counts, rows, strict=True):
        bars = [ProgressBar(row.total or None, row.done, width=_BAR)] if bar else []
        style = "dim" if row.ended is not None else ""
        figures = "\n".join(packed(_figures(row), room))
        table.add_row(
            Text(name, style=style or "bold"),
            Text(count, style=style),
            *bars,
            Text(_clock(row), style=style),
            Text(figures, style=style),
        )
    return table


def packed(parts: Iterable[str], width: int) -> list[str]:
    """Lines of at most `width` with two blanks between parts, none of which is broken."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + 2 + cell_len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def _below(name: str, count: str, row: tuple[str, Row], width: int) -> Iterator[Text]:
    """A stage on a narrow terminal."""
    style = "dim" if row[1].ended is not None else ""
    for number, line in enumerate(packed([name, count, _clock(row[1])], width)):
        yield Text(line, style=style or ("" if number else "bold"), overflow="fold")
    for line in packed(_figures(row[1]), width - 2):
        yield Text(f"  {line}", style=style, overflow="fold")


def _clock(row: Row) -> str:
    return clock(row.spent())


def _figures(row: Row) -> list[str]:
    return list(filter(None, (row.left(), *parts_beside(row.figures))))


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

    def __rich__(self) -> Table | Group:
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
