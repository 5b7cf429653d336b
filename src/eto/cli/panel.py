"""A panel of a run's stages on a terminal, live: how far each is, how long it took and takes, its figures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eto.cli.progress import Progress, beside, clock
from eto.data.texts import shown
from eto.protocols import Stage

MOST_ROWS = 12
"""Stages that are shown; the earliest give way."""
WIDE = 100
"""Columns from which there is room for a bar."""


@dataclass
class _Row:
    """What is known of a stage, or of a phase of one."""

    first: int
    """Done in an earlier process: that tells nothing about the speed."""
    begun: float
    done: int = 0
    total: int = 0
    ended: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def spent(self) -> float:
        return (self.ended or time.monotonic()) - self.begun

    def left(self) -> str:
        made = self.done - self.first
        if self.ended is not None or made <= 0:
            return ""
        return f"{clock(self.spent() / made * (self.total - self.done))} left"


class Panel(Progress):
    """Watches a run on a terminal. What it says scrolls by above the panel."""

    def __init__(
        self, console: Console | None = None, planned: Sequence[Stage] = (), title: str = ""
    ) -> None:
        """planned: the stages of the run, in order. title: what stands above them."""
        super().__init__(console)
        self._planned, self._title = planned, title
        self._rows: dict[str, _Row] = {}
        self._begun = time.monotonic()
        self._live: Live | None = None

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """`stage` has finished `done` of `total`; `figures` are shown beside it."""
        row = self._rows.get(stage)
        if row is None or (row.ended is not None and done < total):
            self._rows.pop(stage, None)
            row = self._rows[stage] = _Row(done, time.monotonic())
        row.done, row.total, row.figures = done, total, figures or row.figures
        if done == total:
            row.ended = row.ended or time.monotonic()
        self._open().refresh()

    def say(self, text: str) -> None:
        """A line of its own, above the panel."""
        self.console.print(text, soft_wrap=True)

    def close(self) -> None:
        """End the panel; its last state stays."""
        if self._live is not None:
            self._live.stop()
        self._live = None

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(max_width=26, overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        if self.console.width >= WIDE:
            table.add_column(width=16)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for name, row in list(self._rows.items())[-MOST_ROWS:]:
            bar = [ProgressBar(row.total or None, row.done, width=16)] if self.console.width >= WIDE else []
            figures = "  ".join(filter(None, (row.left(), beside(row.figures))))
            style = "dim" if row.ended is not None else ""
            table.add_row(
                Text(shown(name, line=True), style=style or "bold"),
                Text(f"{row.done}/{row.total}", style=style),
                *bar,
                Text(clock(row.spent()), style=style),
                Text(figures, style=style),
            )
        return Group(Text(self._head(), style="bold"), table)

    def _head(self) -> str:
        failed = sum(int(row.figures.get("failed", 0)) for row in self._rows.values())
        parts = [shown(self._title, line=True), clock(time.monotonic() - self._begun)]
        parts += [f"{failed} episodes failed"] if failed else []
        parts += [f"then {', '.join(names)}"] if (names := self._to_come()) else []
        return "  ".join(filter(None, parts))

    def _to_come(self) -> list[str]:
        """Planned stages after the last that has begun."""
        known = [
            number
            for number, stage in enumerate(self._planned)
            if stage.name in self._rows or any(phase.text in self._rows for phase in stage.phases)
        ]
        return [stage.name for stage in self._planned[max(known, default=-1) + 1 :]] if known else []

    def _open(self) -> Live:
        if self._live is None:
            self._live = Live(self, console=self.console, refresh_per_second=2, auto_refresh=True)
            self._live.start()
        return self._live
