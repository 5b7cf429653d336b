"""Giving way in the event loop."""

from __future__ import annotations

import asyncio

TURNS = 6
"""Turns of the event loop in which an answer that an episode got, or its end and the start of the next
one in its slot, leads to the next request."""


async def others_first() -> None:
    """Let every episode that can proceed get to its next request, so that all are answered together."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
