"""What an agent's answer asks for, with or without a thought before it."""

from __future__ import annotations

import re

_LABEL = re.compile(r"^[^\S\n]*Action\s*:\s*", re.IGNORECASE | re.MULTILINE)
# In the middle of a line only as it is written in the form that is asked for.
_INNER_LABEL = re.compile(r"\bAction:\s*")


def spoken_action(text: str, style: str = "act") -> str:
    """What follows the last `Action:` at the start of a line of `text`.

    A thought that `text` begins with, up to `</think>`, is left out. Where there is no label, what
    follows the last one within a line, outside square brackets: in `search[Action: heroes]` it is part
    of an argument. Where there is none either: all of the text, but with style "react" nothing, which
    no environment understands.
    """
    if "</think>" in text:
        text = text.rpartition("</think>")[2].lstrip()
    elif text.lstrip().startswith("<think>"):
        return ""
    label = next(reversed(list(_LABEL.finditer(text))), None) or _inner_label(text)
    if label:
        return text[label.end() :]
    return "" if style == "react" else text


def _inner_label(text: str) -> re.Match[str] | None:
    labels = reversed(list(_INNER_LABEL.finditer(text)))
    return next((label for label in labels if not _is_bracketed(text, label.start())), None)


def _is_bracketed(text: str, place: int) -> bool:
    """Whether a square bracket that is open at `place` closes behind it."""
    return text.rfind("[", 0, place) > text.rfind("]", 0, place) and text.find("]", place) > 0


def written_answer(thought: str, action: str) -> str:
    """An answer in the style "react"."""
    return f"Thought: {thought}\nAction: {action}"
