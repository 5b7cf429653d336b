"""Who watches a run: what it says and how far it is goes there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

FIGURES = ("loss", "margin", "accuracy", "chosen_drift", "tokens_per_second", "memory_gb")
"""Of a training step, those that are shown."""


class Watcher(Protocol):
    """The terminal's `eto.cli.progress.Progress`, for one."""

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """`stage` has finished `done` of `total`; `figures` are shown beside it."""
        ...

    def say(self, text: str) -> None:
        """A line for people to read."""
        ...


class Silent:
    """Watches without a word."""

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


def show_step(watch: Watcher, stage: str, figures: Mapping[str, float]) -> None:
    """A step of training: how far it is, and its loss and, for pairs, margin and drift."""
    shown = {name: figures[name] for name in FIGURES if name in figures}
    watch.update(stage, int(figures["step"]), int(figures["steps"]), **shown)
