"""Trajectories as tokens, cut to what a context holds."""

from __future__ import annotations

import warnings

from eto.errors import NothingLeft
from eto.tokens.rendering import Rendered, Renderer, check_mask
from eto.types import Trajectory


def fitted(
    trajectory: Trajectory, renderer: Renderer, max_context: int | None, *, to_the_end: bool = False
) -> tuple[Rendered, ...]:
    """`trajectory` as tokens, in one sample or several (see `Renderer.samples`).

    `to_the_end`: with the last observation. Cut at whole turns to `max_context` tokens with a warning
    that counts them. Raises `NothingLeft` where no turn that carries loss is left.
    """
    samples = renderer.samples(trajectory, max_tokens=max_context, to_the_end=to_the_end)
    dropped = samples[-1].dropped_turns
    if not any(turn.loss for turn in trajectory.turns[: len(trajectory.turns) - dropped]):
        raise NothingLeft("no turn that carries loss is left", where=trajectory.task.id, hint="drop it")
    for rendered in samples:
        check_mask(rendered, trajectory.task.id)
    if dropped:
        cut = f"the last {dropped} of {len(trajectory.turns)} turns"
        warnings.warn(
            f"{trajectory.task.id}: {cut} do not fit {max_context} tokens and are left out",
            stacklevel=2,
        )
    return samples
