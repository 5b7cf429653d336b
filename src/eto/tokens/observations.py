"""Which tokens of a conversation are an observation's own text: the second mask, beside the agent's."""

from __future__ import annotations

from collections.abc import Sequence

NO_OBSERVATION = -1


def observation_marks(
    between: Sequence[int], before: Sequence[int], after: Sequence[int], turn: int
) -> list[int]:
    """For each id of `between`, what stands between two actions, `turn` where it belongs to the
    observation's text, else -1.

    before, after: ids that the template puts around an observation. A token that holds an end of them and
    a beginning of the text counts as text.
    """
    start = _common(between, before)
    rest = between[start:]
    stop = len(between) - _common(rest[::-1], after[::-1])
    return [turn if start <= at < stop else NO_OBSERVATION for at in range(len(between))]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
