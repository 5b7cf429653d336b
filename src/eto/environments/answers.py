"""What an agent's answer asks for, with or without a thought before it."""

from __future__ import annotations

import re

_LABEL = re.compile(r"\bAction\s*:\s*", re.IGNORECASE)


def spoken_action(text: str, style: str = "act") -> str:
    """What follows the last `Action:` of `text`; what a model thinks before `</think>` is not looked at.

    Where there is none: all of it, but with style "react" nothing, which no environment understands.
    """
    _, closed, rest = text.rpartition("</think>")
    text = (rest.lstrip() if closed else rest).partition("<think>")[0]
    *before, action = _LABEL.split(text)
    return action if before or style != "react" else ""


def written_answer(thought: str, action: str) -> str:
    """An answer in the style "react"."""
    return f"Thought: {thought}\nAction: {action}"
