"""Episodes of an actor and experts of a suite, kept in a store as they end, shown as they go.

Where none could be played the command fails, with the commonest reasons; where some could not, they
are counted with theirs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eto.data.store import TrajectoryStore
from eto.engines.actor import Actor
from eto.environments.hosting.failures import commonest
from eto.environments.hosting.host import NoExpert
from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import EngineFailure, EnvironmentFailure, InputError
from eto.experiment.recipe import Recipe
from eto.experiment.watch import Watcher
from eto.protocols import TaskSuite
from eto.rollout.experts import stream_experts
from eto.rollout.replay import SIMULATOR_FAILED, Replayed
from eto.rollout.rollouts import sample_numbers, stream_continuations, stream_rollouts
from eto.types import Phase, Prefix, StopReason, Task, Trajectory

NAMED = 5
"""Tasks that are named beside a reason."""
_WHY_NONE = {
    "none": "have no expert in the suite",
    "unsolved": "have an expert that does not solve them",
    "failed": "could not be played",
}


def play(
    actor: Actor,
    suite: TaskSuite,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    progress: Watcher,
    phase: Phase,
    samples: int = 1,
    temperature: float = 0.0,
    seed: int | None = None,
    prompts: Mapping[tuple[str, int], str] | None = None,
    store: TrajectoryStore | None = None,
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """Play what `phase` of `store` does not hold yet; returns all its trajectories, failed ones included.

    `seed`: by default the recipe's. `prompts`: as of `stream_rollouts`. Raises `EnvironmentFailure` where no
    episode could be played, `InputError` where no prompt fits the model's context.
    """
    played = store.get(phase) if store else []
    total = len(tasks) * samples
    if len(played) < total:
        fresh = stream_rollouts(
            actor,
            suite,
            tasks,
            samples=samples,
            temperature=temperature,
            seed=recipe.seed if seed is None else seed,
            settings=recipe.rollout,
            limits=recipe.environment,
            prompts=prompts,
            done=frozenset((t.task.id, t.sample) for t in played),
            pool=pool,
        )
        played += _kept(fresh, played, total, phase, store, progress)
    report_failures(played, suite.name, progress)
    return in_task_order(played, tasks)


def in_task_order(played: Iterable[Trajectory], tasks: Sequence[Task]) -> list[Trajectory]:
    """Episodes in the order of `tasks`, by sample: the same whoever played them, and in which start."""
    order = {task.id: index for index, task in enumerate(tasks)}
    return sorted(played, key=lambda t: (order.get(t.task.id, len(order)), t.sample))


def play_on(
    actor: Actor,
    suite: TaskSuite,
    prefixes: Sequence[Prefix],
    recipe: Recipe,
    *,
    progress: Watcher,
    phase: Phase,
    samples: int,
    temperature: float,
    seed: int,
    store: TrajectoryStore,
    pool: EnvironmentPool,
    own_turns: int | None = None,
) -> list[list[Trajectory]]:
    """`samples` episodes from each prefix, those that `phase` of `store` holds already not played again; for
    each prefix those that did not fail. Errors as of `play`."""
    played = store.get(phase)
    total = len(prefixes) * samples
    if len(played) < total:
        fresh = stream_continuations(
            actor,
            suite,
            prefixes,
            samples=samples,
            temperature=temperature,
            seed=seed,
            own_turns=own_turns,
            settings=recipe.rollout,
            limits=recipe.environment,
            done=frozenset((t.task.id, t.sample) for t in played),
            pool=pool,
        )
        played += _kept(fresh, played, total, phase, store, progress)
        report_failures(played, suite.name, progress)
    return by_prefix(played, prefixes, samples)


def by_prefix(
    played: Iterable[Trajectory], prefixes: Sequence[Prefix], samples: int
) -> list[list[Trajectory]]:
    """For each prefix those of its episodes that did not fail."""
    found = {(t.task.id, t.sample): t for t in played if not t.failed}
    return [
        [found[task_id, sample] for sample in numbers if (task_id, sample) in found]
        for task_id, numbers in sample_numbers(prefixes, samples)
    ]


def _kept(
    fresh: Iterable[Trajectory],
    earlier: Sequence[Trajectory],
    total: int,
    phase: Phase,
    store: TrajectoryStore | None,
    progress: Watcher,
) -> list[Trajectory]:
    """The `fresh` episodes, each kept in `store` and shown as it ends; `total` with those of `earlier`."""
    played: list[Trajectory] = []
    rewards = [t.reward for t in earlier if not t.failed]
    begun, tokens, failed = time.monotonic(), 0, 0
    progress.update(phase.text, len(earlier), total)
    for trajectory in fresh:
        if store:
            store.add(phase, trajectory)
        played.append(trajectory)
        rewards += [] if trajectory.failed else [trajectory.reward]
        failed += trajectory.failed
        tokens += sum(len(turn.action_ids or ()) for turn in trajectory.turns)
        figures = reward_so_far(rewards)
        if tokens:
            figures["tokens_per_second"] = tokens / max(time.monotonic() - begun, 1e-9)
        if failed:
            figures["failed"] = failed
        progress.update(phase.text, len(earlier) + len(played), total, **figures)
    return played


def reward_so_far(rewards: Sequence[float]) -> dict[str, float]:
    """Mean reward of the episodes that have ended, each in [0, 1], and the bounds `low` and `high` of its
    95% interval in the normal approximation: cheap enough for every episode. Reports have another, which
    resamples tasks."""
    if not rewards:
        return {}
    mean, n = sum(rewards) / len(rewards), len(rewards)
    if n < 2:
        return {"reward": mean}
    half = 1.96 * math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / (n - 1) / n)
    return {"reward": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half)}


def report_failures(played: Sequence[Trajectory], suite: str, watch: Watcher) -> None:
    """Count the episodes that failed, or whose prompt did not fit, with their reasons.

    Raises `EnvironmentFailure`, `EngineFailure` or `InputError` where there are no others.
    """
    failed = [t for t in played if t.failed]
    unfit = [t for t in played if t.stop is StopReason.OUT_OF_TOKENS and not t.turns]
    count = len(played)
    if failed and len(failed) + len(unfit) == count:
        if all(t.stop is StopReason.ENGINE_FAILED for t in failed):
            raise EngineFailure(
                f"none of {count} episodes could be played\n{commonest(t.detail for t in (*failed, *unfit))}",
                where="rollout.engine",
                hint="see to the engine; the same command plays them again",
            )
        raise EnvironmentFailure(
            f"none of {count} episodes could be played\n{commonest(t.detail for t in (*failed, *unfit))}",
            where=f"environment {suite}",
            hint=f"`eto environments check {suite} [OPTION=VALUE]...` names each breach",
        )
    if unfit and len(unfit) == count:
        raise InputError(
            f"no prompt of {count} episodes fits the context\n{commonest(t.detail for t in unfit)}",
            where="model.max_context",
            hint="use a model with a longer context, or lower rollout.max_action_tokens",
        )
    if failed:
        summary = f"{len(failed)} of {count} episodes failed and are set aside:"
        watch.say(f"{summary}\n{commonest(t.detail for t in failed)}")
    if unfit:
        summary = (
            f"{len(unfit)} of {len(played)} episodes have no turn, as their prompt does not fit the context:"
        )
        watch.say(f"{summary}\n{commonest(t.detail for t in unfit)}")


def collect(
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    workers: int,
    store: TrajectoryStore,
    progress: Watcher,
    pool: EnvironmentPool,
    hint: str | None = "take other tasks, or bring trajectories as a file (`eto replay` checks them)",
) -> Iterator[Trajectory | NoExpert]:
    """Put verified experts of those `tasks` into `store` that it has none of; yields each as it is ready.

    Says at the end which tasks have none, and why. Raises `EnvironmentFailure` where all have none,
    with `hint`; where that is None, no expert is needed, and it does so only for simulators that failed.
    """
    kept = {t.task.id for t in store.get(Phase.expert())}
    left = [task for task in tasks if task.id not in kept]
    missing: list[tuple[Task, NoExpert]] = []
    progress.update(Phase.expert().text, len(tasks) - len(left), len(tasks))
    streamed = stream_experts(suite, left, workers=workers, pool=pool)
    for finished, (task, expert) in enumerate(streamed, start=len(tasks) - len(left) + 1):
        if isinstance(expert, Trajectory):
            store.add(Phase.expert(), expert)
            kept.add(task.id)
        else:
            missing.append((task, expert))
        progress.update(Phase.expert().text, finished, len(tasks), kept=len(kept))
        yield expert
    order = {task.id: index for index, task in enumerate(tasks)}
    missing.sort(key=lambda each: order[each[0].id])
    if not any(task.id in kept for task in tasks):
        broken = all(why.reason == "failed" for _, why in missing)
        if hint is not None or broken:
            raise EnvironmentFailure(
                f"none of {len(tasks)} tasks has an expert that solves it\n{why_none(missing)}",
                where=f"environment {suite.name}",
                hint=hint or f"`eto environments check {suite.name} [OPTION=VALUE]...` names each breach",
            )
    if missing:
        progress.say(f"{len(missing)} of {len(tasks)} tasks have no expert:\n{why_none(missing)}")


def kept_experts(store: TrajectoryStore, tasks: Sequence[Task]) -> list[Trajectory]:
    """The experts in `store`, in the order of `tasks`."""
    kept = {t.task.id: t for t in store.get(Phase.expert())}
    return [kept[task.id] for task in tasks if task.id in kept]


def why_none(missing: Sequence[tuple[Task, NoExpert]]) -> str:
    """A line for each reason with the tasks it holds for, and the commonest details below it."""
    lines = []
    for reason, explanation in _WHY_NONE.items():
        group = [(task, why) for task, why in missing if why.reason == reason]
        if group:
            named = ", ".join(task.id for task, _ in group[:NAMED])
            more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
            lines.append(f"  {len(group)} {explanation}: {named}{more}")
            if reason != "none":
                lines += [f"  {line}" for line in commonest(why.detail for _, why in group).splitlines()]
    return "\n".join(lines)


def check_some_replayed(replayed: Replayed, count: int, suite: str) -> None:
    """Raises `EnvironmentFailure` where simulators kept every trajectory from being replayed, `InputError`
    where their tasks are not the suite's."""
    if len(replayed.not_replayable) < count:
        return
    problem = f"none of {count} trajectories could be replayed\n"
    problem += commonest(t.detail for t in replayed.not_replayable)
    if any(t.detail.startswith(SIMULATOR_FAILED) for t in replayed.not_replayable):
        hint = f"`eto environments check {suite} [OPTION=VALUE]...` names each breach"
        raise EnvironmentFailure(problem, where=f"environment {suite}", hint=hint)
    hint = "name their environment and its options, as environment.name=... environment.options={...}"
    raise InputError(problem, where=f"environment {suite}", hint=hint)
