"""Episodes of a policy and experts of a suite, kept in a store as they end, shown as they go.

Where none could be played the command fails, with the commonest reasons; where some could not, they
are counted with theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eto.environments.host import NoExpert
from eto.environments.pool import EnvironmentPool, collect_experts
from eto.errors import EnvironmentFailure, InputError
from eto.experiment.watch import Watcher
from eto.failures import commonest
from eto.protocols import Policy, TaskSuite
from eto.rollout.replay import SIMULATOR_FAILED, Replayed
from eto.rollout.rollouts import RolloutSettings, rollouts
from eto.store import TrajectoryStore
from eto.types import StopReason, Task, Trajectory

EXPERT = "expert"
"""The phase of a store that holds expert trajectories."""
NAMED = 5
"""Tasks that are named beside a reason."""
_WHY_NONE = {
    "none": "have no expert in the suite",
    "unsolved": "have an expert that does not solve them",
    "failed": "could not be played",
}


def play(
    policy: Policy,
    suite: TaskSuite,
    tasks: Sequence[Task],
    settings: RolloutSettings,
    *,
    progress: Watcher,
    phase: str,
    samples: int = 1,
    store: TrajectoryStore | None = None,
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """Play what `phase` of `store` does not hold yet; returns all its trajectories, failed ones included.

    Raises `EnvironmentFailure` where no episode could be played, `InputError` where no prompt fits the
    model's context.
    """
    earlier = store.get(phase) if store else []
    done = frozenset((t.task.id, t.sample) for t in earlier)
    total = len(tasks) * samples
    finished = list(earlier)
    rewards = [t.reward for t in earlier]

    def ended(trajectory: Trajectory) -> None:
        if store:
            store.add(phase, trajectory)
        finished.append(trajectory)
        if not trajectory.failed:
            rewards.append(trajectory.reward)
        figures = {"reward": sum(rewards) / len(rewards)} if rewards else {}
        progress.update(phase, len(finished), total, **figures)

    if len(done) < total:
        progress.update(phase, len(finished), total)
        rollouts(
            policy,
            suite,
            tasks,
            samples=samples,
            settings=settings,
            done=done,
            on_trajectory=ended,
            pool=pool,
        )
    order = {task.id: number for number, task in enumerate(tasks)}
    finished.sort(key=lambda t: (order.get(t.task.id, len(order)), t.sample))
    tell_failures(finished, suite.name, progress.say)
    return finished


def tell_failures(played: Sequence[Trajectory], suite: str, say: Callable[[str], None]) -> None:
    """Count the episodes that failed, or whose prompt did not fit, with their reasons.

    Raises `EnvironmentFailure` or `InputError` where there are no others.
    """
    failed = [t for t in played if t.failed]
    unfit = [t for t in played if t.stop is StopReason.OUT_OF_TOKENS and not t.turns]
    count = len(played)
    if failed and len(failed) + len(unfit) == count:
        raise EnvironmentFailure(
            f"none of {count} episodes could be played\n{commonest(t.detail for t in (*failed, *unfit))}",
            where=f"environment {suite}",
            mend=f"`eto environments check {suite} [OPTION=VALUE]...` names each breach",
        )
    if unfit and len(unfit) == count:
        raise InputError(
            f"no prompt of {count} episodes fits the context\n{commonest(t.detail for t in unfit)}",
            where="model.max_context",
            mend="use a model with a longer context, or lower rollout.max_action_tokens",
        )
    if failed:
        told = f"{len(failed)} of {count} episodes failed and are set aside:"
        say(f"{told}\n{commonest(t.detail for t in failed)}")
    if unfit:
        told = (
            f"{len(unfit)} of {len(played)} episodes have no turn, as their prompt does not fit the context:"
        )
        say(f"{told}\n{commonest(t.detail for t in unfit)}")


def collect(
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    workers: int,
    store: TrajectoryStore,
    progress: Watcher,
    pool: EnvironmentPool,
    watch: Callable[[], None] = lambda: None,
) -> list[Trajectory]:
    """Verified experts of `tasks`, those that `store` holds already included; `watch` is called after each.

    Says which tasks have none, and why. Raises `EnvironmentFailure` where all have none.
    """
    kept = {t.task.id: t for t in store.get(EXPERT)}
    left = [task for task in tasks if task.id not in kept]
    missing: list[tuple[Task, NoExpert]] = []
    finished = len(tasks) - len(left)
    progress.update(EXPERT, finished, len(tasks))

    def done(task: Task, trajectory: Trajectory | None) -> None:
        nonlocal finished
        finished += 1
        if trajectory is not None:
            store.add(EXPERT, trajectory)
            kept[task.id] = trajectory
        progress.update(EXPERT, finished, len(tasks), kept=len(kept))
        watch()

    collect_experts(
        suite,
        left,
        workers=workers,
        on_done=done,
        pool=pool,
        on_none=lambda task, why: missing.append((task, why)),
    )
    order = {task.id: number for number, task in enumerate(tasks)}
    missing.sort(key=lambda each: order[each[0].id])
    found = [kept[task.id] for task in tasks if task.id in kept]
    if not found:
        raise EnvironmentFailure(
            f"none of {len(tasks)} tasks has an expert that solves it\n{why_none(missing)}",
            where=f"environment {suite.name}",
            mend="take other tasks, or bring trajectories as a file (`eto replay` checks them)",
        )
    if missing:
        progress.say(f"{len(missing)} of {len(tasks)} tasks have no expert:\n{why_none(missing)}")
    return found


def why_none(missing: Sequence[tuple[Task, NoExpert]]) -> str:
    """A line for each reason with the tasks it holds for, and the commonest details below it."""
    lines = []
    for reason, told in _WHY_NONE.items():
        group = [(task, why) for task, why in missing if why.reason == reason]
        if group:
            named = ", ".join(task.id for task, _ in group[:NAMED])
            more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
            lines.append(f"  {len(group)} {told}: {named}{more}")
            if reason != "none":
                lines += [f"  {line}" for line in commonest(why.detail for _, why in group).splitlines()]
    return "\n".join(lines)


def check_some_replayed(found: Replayed, count: int, suite: str) -> None:
    """Raises `EnvironmentFailure` where simulators kept every trajectory from being replayed, `InputError`
    where their tasks are not the suite's."""
    if len(found.not_replayable) < count:
        return
    told = f"none of {count} trajectories could be replayed\n"
    told += commonest(t.detail for t in found.not_replayable)
    if any(t.detail.startswith(SIMULATOR_FAILED) for t in found.not_replayable):
        mend = f"`eto environments check {suite} [OPTION=VALUE]...` names each breach"
        raise EnvironmentFailure(told, where=f"environment {suite}", mend=mend)
    mend = "name their environment and its options, as environment.name=... environment.options={...}"
    raise InputError(told, where=f"environment {suite}", mend=mend)
