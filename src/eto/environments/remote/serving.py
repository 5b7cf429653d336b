"""The open sessions of a server over a suite of ours, whatever protocol it speaks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI

from eto.environments.hosting.boundary import Begun, checked_environment, user_code
from eto.environments.hosting.host import begin, take_step
from eto.errors import EtoError
from eto.protocols import Environment, Step, TaskSuite
from eto.types import Task


class NotThere(Exception):
    """A session or task that the client named and that does not exist."""


class Full(Exception):
    """All sessions that the server may hold are taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the server holds {limit} sessions at a time, all taken")
        self.limit = limit


class Session:
    """One client's environment. Its calls wait for one another.

    Raises `EnvironmentFailure` where the environment fails.
    """

    def __init__(self, suite: TaskSuite) -> None:
        self._suite = suite
        self._lock = threading.Lock()
        self._environment = self._made()
        self.asked = time.monotonic()
        self.observation = ""

    def reset(self, task: Task) -> Begun:
        with self._lock:
            begun = begin(self._suite, self._environment, task)
            self.observation = begun.observation
            return begun

    def step(self, action: str) -> Step:
        with self._lock:
            step = take_step(self._environment, action)
            self.observation = step.observation
            return step

    def renew(self) -> None:
        """Another environment in place of one that failed, for its state is unknown."""
        with suppress(EtoError):
            self.close()
        with self._lock:
            self._environment = self._made()

    def close(self) -> None:
        with self._lock, user_code("close"):
            self._environment.close()

    def _made(self) -> Environment:
        with user_code("environment"):
            made = self._suite.environment()
        return checked_environment(made)


class Sessions:
    """The open sessions of a server, by number; at most `limit`, where there is one."""

    def __init__(self, suite: TaskSuite, limit: int | None = None) -> None:
        self._suite, self._limit = suite, limit
        self._open: dict[int, Session] = {}
        self._lock = threading.Lock()
        self._created = self._coming = 0

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
        """Close sessions unasked for longer than allowed."""
        before = time.monotonic() - seconds
        for number in [number for number, session in list(self._open.items()) if session.asked < before]:
            self.give_up(number)

    def close_all(self) -> None:
        for number in list(self._open):
            self.give_up(number)

    def __len__(self) -> int:
        return len(self._open)


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
