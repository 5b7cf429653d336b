"""The open sessions of a server over a suite of ours, whatever protocol it speaks."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from eto.data.texts import counted
from eto.environments.hosting.boundary import Begun, checked_environment, user_code
from eto.environments.hosting.host import begin, take_step
from eto.errors import EnvironmentFailure, EtoError
from eto.protocols import Environment, Step, TaskSuite
from eto.types import Task

ENDED = "The episode has ended."


class NotThere(Exception):
    """A session or task that the client named and that does not exist."""


class Full(Exception):
    """All sessions that the server may hold are taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the server holds {counted(limit, 'session')} at a time, all taken")
        self.limit = limit


class Session:
    """One client's environment. Its calls wait for one another.

    Raises `EnvironmentFailure` where the environment fails. Its state is then unknown: the episode is over,
    and the next one has a new environment.
    """

    def __init__(self, suite: TaskSuite) -> None:
        self._suite = suite
        self._lock = threading.Lock()
        self._environment = self._made()
        self._failed = False
        self._last: Step | None = None  # of the episode under way
        self.asked = time.monotonic()

    @property
    def at_work(self) -> bool:
        """Whether a call is under way."""
        return self._lock.locked()

    @property
    def observation(self) -> str:
        """The last one; "" where no episode is under way."""
        last = self._last
        return "" if last is None else last.observation

    def reset(self, task: Task) -> Begun:
        with self._lock, self._called():
            if self._failed:
                with suppress(EtoError):
                    self._close()
                self._environment = self._made()
                self._failed = False
            begun = begin(self._suite, self._environment, task)
            self._last = Step(begun.observation, 0.0, terminated=False)
            return begun

    def step(self, action: str) -> Step:
        """Raises `EnvironmentFailure` also where no episode is under way; after its end nothing happens."""
        with self._lock:
            if self._last is None:
                raise EnvironmentFailure("no episode is under way", hint="reset before the first step")
            if self._last.terminated or self._last.truncated:
                return replace(self._last, observation=ENDED)
            with self._called():
                self._last = take_step(self._environment, action)
            return self._last

    def close(self) -> None:
        with self._lock:
            self._close()

    @contextmanager
    def _called(self) -> Iterator[None]:
        """For calls of the environment."""
        try:
            yield
        except EtoError:
            self._last, self._failed = None, True
            raise
        finally:
            self.asked = time.monotonic()

    def _close(self) -> None:
        with user_code("close"):
            self._environment.close()

    def _made(self) -> Environment:
        with user_code("environment"):
            made = self._suite.environment()
        return checked_environment(made)


class Sessions:
    """The open sessions of a server, by number; at most `limit`, where there is one.

    The first number is random: a client of an earlier server at this address finds no session by its old one,
    least of all another client's.
    """

    def __init__(self, suite: TaskSuite, limit: int | None = None) -> None:
        self._suite, self._limit = suite, limit
        self._open: dict[int, Session] = {}
        self._lock = threading.Lock()
        self._created, self._coming = secrets.randbelow(2**31), 0

    def create(self) -> int:
        """The number of a new session. Raises `Full`, and `EnvironmentFailure` where none can be made."""
        with self._lock:
            if self._limit is not None and len(self._open) + self._coming >= self._limit:
                raise Full(self._limit)
            self._coming += 1
        try:
            session = Session(self._suite)
            with self._lock:
                number, self._created = self._created, self._created + 1
                self._open[number] = session
        finally:
            with self._lock:
                self._coming -= 1
        return number

    def find(self, number: int) -> Session:
        """An open session, which counts as asked for now. Raises `NotThere`."""
        session = self._open.get(number)
        if session is None:
            raise NotThere(f"there is no session {number}")
        session.asked = time.monotonic()
        return session

    def close(self, number: int) -> bool:
        """Whether the session was open. Raises `EnvironmentFailure` where its environment fails."""
        with self._lock:
            session = self._open.pop(number, None)
        if session is not None:
            session.close()
        return session is not None

    def give_up(self, number: int) -> None:
        """Close a session whose client waits for no answer."""
        with suppress(EtoError):
            self.close(number)

    def close_idle(self, seconds: float) -> None:
        """Close sessions unasked for longer than allowed; one at work is not idle, and may never end."""
        before = time.monotonic() - seconds
        for number, session in list(self._open.items()):
            if session.asked < before and not session.at_work:
                self.give_up(number)

    def close_all(self) -> None:
        for number in list(self._open):
            self.give_up(number)

    def __len__(self) -> int:
        return len(self._open)


def faults(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Type, place and words of each, without what was sent: it may be of any size, and no JSON."""
    return [{name: each[name] for name in ("type", "loc", "msg")} for each in errors]


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def lifespan(sessions: Sessions, idle_seconds: float | None) -> Lifespan:
    """While the server runs, sessions idle that long are closed; when it ends, all."""

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(sessions, idle_seconds)) if idle_seconds is not None else None
        yield
        if sweeping is not None:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
        await asyncio.to_thread(sessions.close_all)

    return living


async def _sweep(sessions: Sessions, idle_seconds: float) -> None:
    while True:
        await asyncio.sleep(min(idle_seconds, 30.0))
        await asyncio.to_thread(sessions.close_idle, idle_seconds)
