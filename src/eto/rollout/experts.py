"""Verified trajectories of a suite's experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eto.environments.hosting.host import NoExpert
from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import EnvironmentFailure
from eto.protocols import TaskSuite
from eto.rollout.episode import Episode, recite
from eto.rollout.simulators import Simulator
from eto.rollout.slots import stream
from eto.settings import EnvironmentLimits
from eto.settings.limits import Whole, check_values
from eto.types import StopReason, Task, Trajectory

LONGEST = 2_592_000.0
"""Seconds: no bound on the work for one task."""


def collect_experts(
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    workers: Whole = 2,
    retries: Whole = 1,
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """Verified expert trajectories of `tasks`, in their order; tasks without one are left out. See
    `stream_experts`."""
    experts: dict[int, Trajectory] = {}
    for index, _, expert in _streamed(suite, tasks, workers, retries, pool):
        if isinstance(expert, Trajectory):
            experts[index] = expert
    return [experts[index] for index in sorted(experts)]


def stream_experts(
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    workers: Whole = 2,
    retries: Whole = 1,
    pool: EnvironmentPool | None = None,
) -> Iterator[tuple[Task, Trajectory | NoExpert]]:
    """Each task with a verified expert trajectory, or why there is none, as they end.

    retries: times a task is tried again after its simulator failed. pool: simulators that stand already,
    with `workers` of them, and stay.
    """
    streamed = _streamed(suite, tasks, workers, retries, pool)
    return ((task, expert) for _, task, expert in streamed)


def repeated(
    suite: TaskSuite,
    experts: Sequence[Trajectory],
    *,
    limits: EnvironmentLimits,
    pool: EnvironmentPool | None,
) -> list[tuple[Trajectory, Trajectory]]:
    """Each expert trajectory with the episode that its actions make when they are played once more, in the
    order in which they end; without those whose simulator failed."""
    played = stream(suite, experts, _again, slots=len(experts) or 1, retries=1, limits=limits, pool=pool)
    return [(expert, again) for expert, again in played if not again.failed]


def _streamed(
    suite: TaskSuite, tasks: Sequence[Task], workers: int, retries: int, pool: EnvironmentPool | None
) -> Iterator[tuple[int, Task, Trajectory | NoExpert]]:
    check_values(collect_experts, {"workers": workers, "retries": retries})

    # A request has a deadline of its own; no episode is played.
    limits = EnvironmentLimits(workers=workers, episode_seconds=LONGEST)
    slots = max(workers, 1)
    played = stream(suite, enumerate(tasks), _expert, slots=slots, retries=retries, limits=limits, pool=pool)
    return ((index, task, expert) for (index, task), expert in played)


async def _expert(simulator: Simulator, job: tuple[int, Task]) -> Trajectory | NoExpert:
    try:
        return await simulator.expert(job[1])
    except EnvironmentFailure as failure:
        return NoExpert("failed", str(failure))


async def _again(simulator: Simulator, expert: Trajectory) -> Trajectory:
    episode = Episode(expert.task, expert.source)
    try:
        episode.messages = (await simulator.reset(expert.task)).messages
        stop = await recite(simulator, episode, expert.turns)
    except EnvironmentFailure as failure:
        return episode.ended(StopReason.ENVIRONMENT_FAILED, str(failure))
    return episode.ended(stop or StopReason.OUT_OF_TURNS)
