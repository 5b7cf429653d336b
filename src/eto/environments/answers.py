"""What an agent's answer asks for, with or without a thought before it."""

from __future__ import annotations

import re

_LABEL = re.compile(r"^[^\S\n]*Action\s*:\s*", re.IGNORECASE | re.MULTILINE)
# In the middle of a line only as it is written in the form that is asked for.
_INNER_LABEL = re.compile(r"\bAction:\s*")


def spoken_action(text: str, style: str = "act") -> str:
    """What follows the last `Action:` at the beginning of a line of `text`.

    Where there is none, what follows the last one within a line, outside square brackets: in
    `search[Action: heroes]` it is part of an argument. Where there is none either: all of the text, but
    with style "react" nothing, which no environment understands.
    """
    labels = list(_LABEL.finditer(text)) or [
        label for label in _INNER_LABEL.finditer(text) if not _is_bracketed(text, label.start())
    ]
    if labels:
        return text[labels[-1].end() :]
    return "" if style == "react" else text


def _is_bracketed(text: str, place: int) -> bool:
    """Whether a square bracket that is open at `place` closes behind it."""
    return text.rfind("[", 0, place) > text.rfind("]", 0, place) and "]" in text[place:]


def written_answer(thought: str, action: str) -> str:
    """An answer in the style "react"."""
    return f"Thought: {thought}\nAction: {action}"
