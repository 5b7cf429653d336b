"""A conversation that tests of engines have."""

from __future__ import annotations

from eto.types import Message

PROMPT = (Message("system", "You see a cup."), Message("user", "Begin."))
OBSERVATIONS = ("You are in the kitchen.", "a door", "The door is now open.", "Nothing happens. " * 5)
SEEN = (None, *OBSERVATIONS)
