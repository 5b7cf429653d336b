"""A panel of a run's stages on a terminal, live: how far each is, how long it took and takes, its figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from eto.cli.progress import Progress, Row, as_grid, clock
from eto.data.texts import counted, shown
from eto.protocols import Stage

MOST_ROWS = 12
"""Stages that are shown; the earliest give way."""


class Panel(Progress):
    """Watches a run on a terminal. What it says scrolls by above the panel."""

    def __init__(
        self, console: Console | None = None, planned: Sequence[Stage] = (), title: str = ""
    ) -> None:
        """planned: the stages of the run, in order. title: what stands above them."""
        super().__init__(console)
        self._planned, self._title = planned, title
        self._rows: dict[str, Row] = {}
        self._begun = time.monotonic()
        self._live: Live | None = None

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """`stage` has finished `done` of `total`; `figures` are shown beside it."""
        row = self._rows.get(stage)
        if row is None or (row.ended is not None and done < total):
            self._rows.pop(stage, None)
            row = self._rows[stage] = Row(done, time.monotonic())
        row.update(done, total, figures)
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
        table = as_grid(list(self._rows.items())[-MOST_ROWS:], self.console.width)
        return Group(Text(self._head(), style="bold"), table)

    def _head(self) -> str:
        failed = sum(int(row.figures.get("failed", 0)) for row in self._rows.values())
        parts = [shown(self._title, line=True), clock(time.monotonic() - self._begun)]
        parts += [f"{counted(failed, 'episode')} failed"] if failed else []
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
