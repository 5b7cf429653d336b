"""The simulators of a pool, awaited: each slot plays one episode after another."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from eto.environments.hosting.boundary import Begun
from eto.environments.hosting.host import NoExpert
from eto.environments.hosting.pool import EnvironmentPool, Result
from eto.errors import EnvironmentFailure
from eto.protocols import Step
from eto.types import Task, Trajectory


class Simulators:
    """Hands a pool's results to those who await them, in the running event loop.

    A context manager. It waits for the news of the pool's workers and for their next deadline, nothing else.
    Requests under way when it is left are abandoned.
    """

    def __init__(self, pool: EnvironmentPool, *, episode_seconds: float = math.inf) -> None:
        """`episode_seconds`: longest that a simulator may work on one episode."""
        self.pool, self.episode_seconds = pool, episode_seconds
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Simulators:
        self._loop = asyncio.get_running_loop()
        self.pool.notify(self._news)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.notify(None)
        if self._timer is not None:
            self._timer.cancel()
        self.pool.abandon()

    def slot(self, number: int) -> Simulator:
        """The simulator of a slot."""
        return Simulator(self, number)

    async def answer(self, slot: int) -> Result:
        """The result of what was just submitted for `slot`. Raises where the suite cannot be played."""
        answer = self._waiting[slot] = self._loop.create_future()
        self._take()
        return await answer

    def _news(self) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        """Hand over the available results, and look again at the next deadline."""
        try:
            for result in self.pool.poll(0.0):
                answer = self._waiting.pop(result.slot)
                if not answer.done():  # whoever waited may have been called off
                    answer.set_result(result)
        except Exception as error:  # raised again where it is awaited
            self._error = error
        if self._error is not None:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._error)
            self._waiting.clear()
            return
        deadline = self.pool.deadline()
        if self._timer is not None and deadline != self._timer.when():
            self._timer.cancel()
            self._timer = None
        if self._timer is None and deadline is not None:
            self._timer = self._loop.call_at(deadline, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        self._take()


class Simulator:
    """One slot. Its methods raise `EnvironmentFailure` where the simulator fails, and `failed` and
    `collateral` say more."""

    def __init__(self, simulators: Simulators, number: int) -> None:
        self._simulators, self._number = simulators, number
        self._begin()

    def _begin(self) -> None:
        self.failed = False
        """Whether it failed in this episode."""
        self.collateral = False
        """Whether another slot's episode took it down."""
        self.seconds = 0.0
        """How long it has worked on this episode."""

    async def reset(self, task: Task) -> Begun:
        """Begin an episode: first observation, prompt, cap of turns."""
        self._begin()
        self._simulators.pool.reset(self._number, task)
        begun = (await self._answer()).begun
        assert begun is not None, "what a reset answers"
        return begun

    async def step(self, action: str) -> Step:
        self._simulators.pool.step(self._number, action)
        step = (await self._answer()).step
        assert step is not None, "what a step answers"
        return step

    async def expert(self, task: Task) -> Trajectory | NoExpert:
        """A verified expert trajectory of `task`, or why there is none."""
        self._begin()
        self._simulators.pool.expert(self._number, task)
        expert = (await self._answer()).expert
        assert expert is not None, "what an expert's request answers"
        return expert

    async def _answer(self) -> Result:
        result = await self._simulators.answer(self._number)
        self.seconds += result.seconds
        if result.failure is not None:
            self.failed, self.collateral = True, result.collateral
            raise result.failure
        if self.seconds > self._simulators.episode_seconds:
            self.failed = True
            raise EnvironmentFailure(f"the simulator worked {self.seconds:.0f} s on one episode")
        return result
