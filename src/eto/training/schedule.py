"""The course of the learning rate."""

from __future__ import annotations

import math

from eto.settings.training import Schedule


def rate_share(schedule: Schedule, step: int, warmup: int, steps: int) -> float:
    """Share of the peak rate in optimiser step `step`, from 0, of `steps`; never 0.

    Step k of `warmup` steps has (k + 1) / `warmup`. After them `cosine` and `linear` fall from 1
    towards 0, which they would reach one step after the last.
    """
    if schedule != "constant" and step < warmup:
        return (step + 1) / warmup
    gone = (step - warmup) / max(1, steps - warmup)
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * gone))
    return 1.0 - gone if schedule == "linear" else 1.0


def warmup_steps(ratio: float, steps: int) -> int:
    """Number of warm-up steps: at least one where there is a ratio, at most all."""
    return min(steps, math.ceil(ratio * steps))
