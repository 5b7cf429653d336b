"""Episodes of a policy, kept in a run's store as they end, shown as they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eto.environments.pool import EnvironmentPool
from eto.protocols import Policy, TaskSuite
from eto.rollout.rollouts import RolloutSettings, rollouts
from eto.store import TrajectoryStore
from eto.types import Task, Trajectory


def play(
    policy: Policy,
    suite: TaskSuite,
    tasks: Sequence[Task],
    settings: RolloutSettings,
    *,
    samples: int = 1,
    store: TrajectoryStore | None = None,
    phase: str = "",
    update: Callable[..., Any] = lambda *_, **__: None,
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """Play what `phase` does not hold yet; returns all its finished trajectories."""
    earlier = store.get(phase) if store else []
    done = frozenset((t.task.id, t.sample) for t in earlier)
    total = len(tasks) * samples
    rewards = [t.reward for t in earlier]
    finished = list(earlier)
    if len(done) < total:
        update(phase, len(finished), total)

    def ended(trajectory: Trajectory) -> None:
        if store:
            store.add(phase, trajectory)
        finished.append(trajectory)
        if not trajectory.failed:
            rewards.append(trajectory.reward)
        update(phase, len(finished), total, reward=sum(rewards) / max(len(rewards), 1))

    if len(done) < total:
        played = rollouts(
            policy,
            suite,
            tasks,
            samples=samples,
            settings=settings,
            done=done,
            on_trajectory=ended,
            pool=pool,
        )
        if not store:
            return played
    return store.get(phase) if store else []
