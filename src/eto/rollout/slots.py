"""What plays when: so many episodes at once, each with its tries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, nullcontext
from typing import TypeVar

from eto.environments.hosting.pool import EnvironmentPool
from eto.protocols import TaskSuite
from eto.rollout.blocking import blocking
from eto.rollout.simulators import Simulator, Simulators
from eto.settings import EnvironmentLimits

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
Attempt = Callable[[Simulator, Job], Awaitable[Outcome]]
"""One try of a job; a simulator that fails in it is not an exception, but part of the outcome."""


def stream(
    suite: TaskSuite,
    jobs: Iterable[Job],
    attempt: Attempt[Job, Outcome],
    *,
    slots: int,
    retries: int,
    limits: EnvironmentLimits,
    pool: EnvironmentPool | None = None,
) -> Iterator[tuple[Job, Outcome]]:
    """Each job and its outcome, as they end; `slots` at once, admitted in their order.

    A slot is used again once the next outcome is asked for, so that one can be kept before more is begun.
    pool: simulators that stand already and stay; without it they are started, within `limits`.
    """

    async def outcomes() -> AsyncGenerator[tuple[Job, Outcome]]:
        own = nullcontext(pool) if pool is not None else EnvironmentPool.within(suite, limits)
        with own as standing, Simulators(standing, episode_seconds=limits.episode_seconds) as simulators:
            async with aclosing(_play_all(simulators, jobs, attempt, slots, retries)) as ended:
                async for job, outcome in ended:
                    yield job, outcome

    return blocking(outcomes())


async def _play_all(
    simulators: Simulators, jobs: Iterable[Job], attempt: Attempt[Job, Outcome], slots: int, retries: int
) -> AsyncGenerator[tuple[Job, Outcome]]:
    waiting, idle = deque(jobs), list(range(slots))[::-1]
    running: dict[asyncio.Task[Outcome], tuple[int, Job]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                slot, job = idle.pop(), waiting.popleft()
                tries = _tries(simulators.slot(slot), job, attempt, retries)
                running[asyncio.create_task(tries)] = slot, job
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                slot, job = running.pop(task)
                idle.append(slot)
                yield job, task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _tries(simulator: Simulator, job: Job, attempt: Attempt[Job, Outcome], retries: int) -> Outcome:
    """The outcome of the first try whose simulator did not fail, or of the last one. A failure that another
    slot's episode caused costs no try."""
    charged = 0
    while True:
        outcome = await attempt(simulator, job)
        charged += simulator.failed and not simulator.collateral
        if not simulator.failed or charged > retries:
            return outcome
