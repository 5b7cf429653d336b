"""A trajectory as token ids with its masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eto.errors import InputError, NothingLeft
from eto.types import Trajectory

NOT_AGENT = -1


@dataclass(frozen=True, slots=True)
class Rendered:
    """A trajectory as tokens, or the part of it that is one sample."""

    ids: tuple[int, ...]
    turns: tuple[int, ...]
    """For each token the number of the agent's turn it belongs to, or -1. The loss mask
    is `turn >= 0`: action tokens and their end-of-turn token, nothing else."""
    dropped_turns: int = 0
    """Turns left out at the end because they did not fit; of several samples the last one's."""
    observations: tuple[int, ...] = ()
    """For each token the number of the turn whose observation's text it belongs to, or -1: a mask of its
    own, disjoint from the agent's."""

    @property
    def mask(self) -> tuple[int, ...]:
        return tuple(int(turn >= 0) for turn in self.turns)


def without_last(sample: Rendered, turns: int) -> Rendered:
    """`sample` of a trajectory with one turn more than `turns`: up to the observation of its last turn."""
    if sample.dropped_turns:
        return replace(sample, dropped_turns=sample.dropped_turns - 1)
    end = max((at for at, turn in enumerate(sample.observations) if turn == turns - 1), default=-1) + 1
    end = end or max(at for at, turn in enumerate(sample.turns) if turn >= 0) + 1
    return Rendered(sample.ids[:end], sample.turns[:end], 0, sample.observations[:end])


def check_kept(trajectory: Trajectory, kept: int, max_tokens: int | None) -> None:
    if kept:
        return
    why = "has no agent turn" if not trajectory.turns else f"does not fit {max_tokens} tokens"
    raise NothingLeft(
        f"the trajectory {why}",
        where=trajectory.task.id,
        hint="drop it, or raise model.max_context" if trajectory.turns else "drop it",
    )


def check_mask(rendered: Rendered, where: str = "") -> None:
    """Raises `InputError` if no token, or every token, would carry loss."""
    marked = sum(rendered.mask)
    if marked == 0 or marked == len(rendered.ids):
        raise InputError(
            f"the loss mask is all {'0' if marked == 0 else '1'}",
            where=where,
            hint="check the chat template with `eto show-mask`",
        )
