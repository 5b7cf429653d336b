"""Texts as vectors without a model: words hashed to signed places (arXiv 0902.2206)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from eto.types import Trajectory, Turn

PLACES = 1024
"""Length of a vector; the words of a small game seldom share a place. Chosen by hand."""
_WORD = re.compile(r"\w+")


def hashed_words(text: str, tag: str = "") -> NDArray[np.float64]:
    """`[PLACES]` counts of the words of `text` in lower case, of length 1; of length 0 where it has none.

    tag: words under one tag are other words than those under another.
    """
    counts = np.zeros(PLACES)
    for word in _WORD.findall(text.lower()):
        code = zlib.crc32(f"{tag} {word}".encode())
        counts[(code >> 1) % PLACES] += 1.0 if code & 1 else -1.0
    length = float(np.linalg.norm(counts))
    return counts / length if length else counts


def turn_vectors(trajectory: Trajectory) -> NDArray[np.float64]:
    """`[turns, PLACES]`: of each turn what the agent said and what came back, in equal parts."""
    return _stacked(_turn(turn) for turn in trajectory.turns)


def action_vector(before: str, action: str) -> NDArray[np.float64]:
    """`[PLACES]` of an action in a state: its words, those of what the agent read `before` it, and the latter
    once more as words that this action alone has, in equal parts. What is linear in it can rank the actions
    of a state otherwise than those of another."""
    said, seen = hashed_words(action, "action"), hashed_words(before, "before")
    return (said + seen + hashed_words(before, f"before {action}")) / np.sqrt(3.0)


def action_vectors(trajectory: Trajectory) -> NDArray[np.float64]:
    """`[turns, PLACES]`: `action_vector` of each turn."""
    heard = [trajectory.messages[-1].content, *(turn.observation for turn in trajectory.turns)]
    pairs = zip(heard, trajectory.turns, strict=False)
    return _stacked(action_vector(before, action_text(turn)) for before, turn in pairs)


def action_text(turn: Turn) -> str:
    """What the agent did in a turn: its text, and the functions that it calls with their arguments."""
    calls = (f"{call.name} {call.arguments}" for call in turn.tool_calls)
    return " ".join(part for part in (turn.action, *calls) if part)


def _turn(turn: Turn) -> NDArray[np.float64]:
    said = hashed_words(f"{action_text(turn)} {turn.reasoning}", "action")
    return (said + hashed_words(turn.observation, "observation")) / np.sqrt(2.0)


def _stacked(rows: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array(list(rows)).reshape(-1, PLACES)
