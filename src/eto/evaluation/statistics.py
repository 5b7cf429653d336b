"""Means with intervals, paired comparisons, and the summary of an agent's episodes.

The unit is the task: several samples of one task are averaged first, and resampling draws tasks,
since samples of one task are not independent. Intervals are percentile bootstrap intervals (Efron and
Tibshirani 1993, chapter 13) of the mean. A success rate where all tasks agree has no bootstrap
spread; there, and only there, the Wilson score interval (Wilson 1927) is given. Failed episodes
(environment or engine) say nothing about the agent: they are counted and enter no mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any

from eto.environments.hosting.failures import commonest
from eto.errors import EnvironmentFailure, InputError
from eto.types import StopReason, Trajectory

if TYPE_CHECKING:
    import numpy as np

Value = Callable[[Trajectory], float | None]
_BLOCK = 1_000_000  # numbers that scipy draws at once, to bound memory


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over tasks with the bounds of its interval; NaN where it is not known."""

    mean: float
    low: float
    high: float
    n: int
    """Tasks behind it."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; unknown numbers are None."""
        return {"mean": _known(self.mean), "low": _known(self.low), "high": _known(self.high), "n": self.n}


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean over the common tasks of (first minus second), with interval and p-value."""

    mean: float
    low: float
    high: float
    n: int
    """Tasks that both have."""
    p: float
    """Two-sided p-value of a sign-flip test of no difference."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; unknown numbers are None."""
        interval = Interval(self.mean, self.low, self.high, self.n)
        return {**interval.to_dict(), "p": _known(self.p)}


@dataclass(frozen=True, slots=True)
class Summary:
    """How one agent did on a set of tasks."""

    tasks: int
    """Tasks with at least one episode that counts."""
    episodes: int
    """Episodes that count."""
    failed: int
    """Episodes set aside because environment or engine failed."""
    reward: Interval
    """Reward of the episode, for ScienceWorld the highest score so far, in [0, 1]."""
    final_reward: Interval
    """max(score, 0) at the end of the episode, over tasks whose score is known."""
    success: Interval
    """Success rate, over tasks where the environment tells."""
    steps_to_success: Interval
    """Turns of successful episodes, over tasks that were solved at least once."""
    turns: Interval
    """Turns of all episodes."""
    disasters: int
    """Episodes that ended with a negative score."""
    out_of_turns: int
    """Episodes that the cap on turns ended."""
    out_of_tokens: int
    """Episodes that the model's context ended."""
    kinds: Mapping[str, Summary] = field(default_factory=dict)
    """The same for each task type; empty in the entries themselves."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values, intervals as objects of mean, low, high and n."""
        values: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            values[name] = value.to_dict() if isinstance(value, Interval) else value
        values["kinds"] = {kind: summary.to_dict() for kind, summary in self.kinds.items()}
        return values


def mean_interval(
    values: Iterable[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of `values`, one per task, with a percentile bootstrap interval.

    Of no values all is NaN; of one the mean is known and its bounds are NaN.
    """
    import numpy as np

    data = np.asarray(list(values), dtype=float)
    if len(data) < 2:
        return Interval(float(data[0]) if len(data) else nan, nan, nan, len(data))
    low, high = _bootstrap(data, np.ones(len(data)), confidence, resamples, seed)
    return Interval(float(data.mean()), low, high, len(data))


def rate_interval(
    values: Iterable[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """`mean_interval` of rates in [0, 1]; where all are 0 or all are 1, the Wilson score interval."""
    data = list(values)
    if data and (all(value == 0 for value in data) or all(value == 1 for value in data)):
        return wilson_interval(int(sum(data)), len(data), confidence=confidence)
    return mean_interval(data, confidence=confidence, resamples=resamples, seed=seed)


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate, from `n` > 0 independent tasks."""
    from scipy.stats import binomtest

    bounds = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high), n)


def by_task(trajectories: Iterable[Trajectory], value: Value) -> dict[str, float]:
    """Mean of `value` per task id, over the samples that did not fail and where it is not None."""
    values: dict[str, list[float]] = defaultdict(list)
    for trajectory in trajectories:
        if not trajectory.failed and (number := value(trajectory)) is not None:
            values[trajectory.task.id].append(float(number))
    return {task: sum(numbers) / len(numbers) for task, numbers in values.items()}


def paired_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """First minus second on the tasks that both have, one number per task id."""
    return pooled_difference([(first, second)], confidence=confidence, resamples=resamples, seed=seed)


def pooled_difference(
    runs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """First minus second over several runs (seeds), each a pair of maps from task id to number.

    The mean weighs every (run, common task) alike. Tasks are clusters: a resample draws task ids and takes
    each with its differences from all runs, and the test flips the sign of whole clusters, since the
    runs of one task are not independent. Runs are taken as given: the interval speaks of these seeds,
    not of seeds to come.
    """
    import numpy as np

    clusters: dict[str, list[float]] = defaultdict(list)
    for first, second in runs:
        for task in first.keys() & second.keys():
            clusters[task].append(first[task] - second[task])
    ordered = [clusters[task] for task in sorted(clusters)]
    sums = np.array([sum(cluster) for cluster in ordered], dtype=float)
    counts = np.array([len(cluster) for cluster in ordered], dtype=float)
    if len(sums) < 2:
        return Difference(float(sums[0] / counts[0]) if len(sums) else nan, nan, nan, len(sums), nan)
    low, high = _bootstrap(sums, counts, confidence, resamples, seed)
    return Difference(
        float(sums.sum() / counts.sum()), low, high, len(sums), _sign_flip_p(sums, resamples, seed)
    )


def summarise(
    trajectories: Sequence[Trajectory], *, resamples: int = 2000, seed: int = 0, unfinished: bool = False
) -> Summary:
    """The summary of one agent's episodes on one split, with one for each task type.

    Raises `EnvironmentFailure` where all of them failed, `InputError` where there are none; with
    `unfinished`, for reports of what is under way, every figure is NaN then.
    """
    failed = [trajectory for trajectory in trajectories if trajectory.failed]
    if not unfinished and len(failed) == len(trajectories):
        if not failed:
            raise InputError("there are no episodes to summarise", hint="give at least one trajectory")
        reasons = commonest(trajectory.detail for trajectory in failed)
        raise EnvironmentFailure(f"none of {len(failed)} episodes could be played\n{reasons}")
    kinds = sorted({trajectory.task.kind for trajectory in trajectories})
    parts = {kind: [t for t in trajectories if t.task.kind == kind] for kind in kinds}
    return _summary(
        trajectories, resamples, seed, {kind: _summary(part, resamples, seed) for kind, part in parts.items()}
    )


def reward(trajectory: Trajectory) -> float:
    """The episode's reward, in [0, 1]."""
    return trajectory.reward


def final_reward(trajectory: Trajectory) -> float | None:
    """max(score, 0) at the end, where the environment has a score."""
    return None if trajectory.score is None else max(trajectory.score, 0.0)


def success(trajectory: Trajectory) -> float | None:
    """1 for solved, 0 for not, None where the environment does not say."""
    return None if trajectory.success is None else float(trajectory.success)


def steps_to_success(trajectory: Trajectory) -> float | None:
    """Turns of a solved episode."""
    return float(len(trajectory.turns)) if trajectory.success else None


def turns(trajectory: Trajectory) -> float:
    """Turns of the episode."""
    return float(len(trajectory.turns))


def _summary(
    trajectories: Sequence[Trajectory], resamples: int, seed: int, kinds: Mapping[str, Summary] | None = None
) -> Summary:
    counted = [trajectory for trajectory in trajectories if not trajectory.failed]

    def interval(value: Value, of: Callable[..., Interval] = mean_interval) -> Interval:
        return of(by_task(counted, value).values(), resamples=resamples, seed=seed)

    return Summary(
        tasks=len({trajectory.task.id for trajectory in counted}),
        episodes=len(counted),
        failed=len(trajectories) - len(counted),
        reward=interval(reward),
        final_reward=interval(final_reward),
        success=interval(success, rate_interval),
        steps_to_success=interval(steps_to_success),
        turns=interval(turns),
        disasters=sum(t.score is not None and t.score < 0 for t in counted),
        out_of_turns=sum(t.stop is StopReason.OUT_OF_TURNS for t in counted),
        out_of_tokens=sum(t.stop is StopReason.OUT_OF_TOKENS for t in counted),
        kinds=kinds or {},
    )


def _bootstrap(
    sums: np.ndarray, counts: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile bounds of sum/count over resampled clusters; `sums` and `counts` are (clusters,)."""
    import numpy as np
    from scipy.stats import bootstrap

    bounds = bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=resamples,
        batch=max(1, _BLOCK // len(sums)),
        confidence_level=confidence,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def _sign_flip_p(sums: np.ndarray, resamples: int, seed: int) -> float:
    """Two-sided p-value of |sum| under random signs: exact where `resamples` hold all 2^clusters of
    them, else (hits + 1) / (resamples + 1)."""
    import numpy as np
    from scipy.stats import permutation_test

    # With `permutation_type="samples"`, one sample has the signs of its values flipped.
    return float(
        permutation_test(
            (sums,),
            lambda sums, axis: np.abs(sums.sum(axis)),
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _BLOCK // len(sums)),
            random_state=np.random.default_rng(seed),
        ).pvalue
    )


def _known(number: float) -> float | None:
    return None if number != number else number
