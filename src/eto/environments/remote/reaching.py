"""Servers that are started again while a run plays on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx2

from eto.errors import EnvironmentFailure

BACK_SECONDS = 30.0
"""How long a server that has answered before may be away: below the usual limit of a reset."""
PAUSE_SECONDS = 0.5

T = TypeVar("T")


class Reach:
    """Whether the server of a suite can be reached, as all its environments have found.

    Without waiting, the episodes that a run still has to play would all fail in the seconds of a restart.
    """

    def __init__(self) -> None:
        self._met = False
        self._until: float | None = None  # when an absence under way has been waited for

    def patiently(self, begin: Callable[[], T]) -> T:
        """`begin`, again and again while the server is away, for `BACK_SECONDS` of each absence. Raises what
        it raises."""
        while True:
            try:
                begun = begin()
            except EnvironmentFailure as failure:
                if not _away(failure) or not self._may_come_back():
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                self._met, self._until = True, None
                return begun

    def _may_come_back(self) -> bool:
        now = time.monotonic()
        if self._until is None:
            self._until = now + BACK_SECONDS
        return self._met and now < self._until


def _away(failure: EnvironmentFailure) -> bool:
    """Whether nobody was there to answer; one that is late is there."""
    cause = failure.__cause__
    known = isinstance(cause, OSError | httpx2.NetworkError | httpx2.RemoteProtocolError)
    return known and not isinstance(cause, TimeoutError)
