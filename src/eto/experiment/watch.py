"""Who watches a run: what it says and how far it is goes there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from eto.training.loop import Fit, StepResult

FIGURES = ("loss", "margin", "accuracy", "chosen_drift", "tokens_per_second")
"""Of a training step, those that are shown."""

PATIENCE = 10.0
"""Seconds of scoring before it is shown."""


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


def show_start(watch: Watcher, stage: str, fit: Fit) -> None:
    """Where training begins, and the memory that it takes at its peak, the model included."""
    watch.update(stage, fit.step, fit.steps, memory_gb=fit.memory.total / 1e9)


def show_step(watch: Watcher, stage: str, step: StepResult) -> None:
    """A step of training: how far it is, and its loss and, for pairs, margin and drift."""
    shown = {name: step.figures[name] for name in FIGURES if name in step.figures}
    watch.update(stage, step.step, step.steps, **shown)


def scoring(watch: Watcher, stage: str) -> Callable[[int, int], None]:
    """Shows how far the scoring for `stage` is, before its training begins, where that takes long."""
    begun = time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - begun >= PATIENCE:
            watch.update(f"{stage} scoring", done, total)

    return show
