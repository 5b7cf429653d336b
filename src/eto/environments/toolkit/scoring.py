"""One reward in [0, 1] for an episode, made of those a server or Gymnasium pays step by step."""

from __future__ import annotations

from collections.abc import Sequence

RULES = ("last", "best", "sum")


def episode_score(paid: Sequence[float], rule: str, scale: float) -> float:
    """The last, the best or the sum of `paid`, times `scale`; 0 where nothing was paid."""
    chosen = {"last": lambda: paid[-1], "best": lambda: max(paid), "sum": lambda: sum(paid)}
    return chosen[rule]() * scale if paid else 0.0


def clipped(score: float) -> float:
    """`score` within 0 and 1."""
    return min(max(score, 0.0), 1.0)
