"""What an agent's answer asks for, with or without a thought before it."""

from __future__ import annotations

import re

_LABEL = re.compile(r"\bAction\s*:\s*", re.IGNORECASE)


def spoken_action(text: str) -> str:
    """What follows the last `Action:` of `text`; all of it where there is none."""
    return _LABEL.split(text)[-1]
