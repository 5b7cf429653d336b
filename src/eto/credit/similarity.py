"""How near a trajectory is to preferred ones, by the maximum mean discrepancy of their turns.

LOPE (arXiv 2407.06503) guides exploration by preferred trajectories without a reward model. Turns are points
x, y; of a trajectory and of the preferred set, by the authors' code:

    MMD^2 = mean k(x, x') - 2 mean k(x, y) + mean k(y, y'),   k(x, y) = exp(-|x - y|^2 / 2 h^2)
    closeness c = 1 - MMD^2;   bonus: r + alpha z(c), z over a batch

With `k` at most 1, MMD^2 is in [0, 2] and closeness in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from eto.credit.contrast import one_begins_other, shared_turns
from eto.errors import InputError
from eto.types import Pair, Trajectory

Points = NDArray[np.float64]
"""`[turns, features]`."""
Embed = Callable[[Trajectory], Points]
"""The turns of a trajectory as points, such as `eto.data.hashed_words.turn_vectors`."""
Key = tuple[str, int]
"""Task id and sample number of an episode."""


def mmd_squared(one: Points, other: Points, bandwidth: float) -> float:
    """Squared discrepancy of two sets of points, in [0, 2]: 0 for equal sets, and symmetric. The biased
    estimate (V-statistic). Raises `InputError` where a set is empty."""
    for points in (one, other):
        if not len(points):
            hint = "leave trajectories without a turn out"
            raise InputError("a set of turns is empty", where="similarity", hint=hint)
    return _discrepancy(one, other, bandwidth, _kernel(other, other, bandwidth).mean())


def median_distance(points: Points) -> float:
    """Median distance of two different points, the usual bandwidth where none is given (JMLR 13:723, 2012);
    1 where all are equal."""
    distances = np.sqrt(_squared_distances(points, points)[np.triu_indices(len(points), 1)])
    apart = distances[distances > 1e-9]
    return float(np.median(apart)) if len(apart) else 1.0


def preferred_by_kind(
    trajectories: Iterable[Trajectory], least_reward: float, most: int
) -> dict[str, list[Trajectory]]:
    """Of each task type up to `most` trajectories of at least `least_reward`, the highest reward first, then
    the shortest; one of a task before a second of any. A type without one is left out."""
    ranked = sorted(
        (t for t in trajectories if not t.failed and t.turns and t.reward >= least_reward),
        key=lambda t: (-t.reward, len(t.turns), t.task.id, t.source, t.sample),
    )
    seen: dict[str, int] = {}
    placed: list[tuple[int, Trajectory]] = []
    for each in ranked:
        placed.append((seen.get(each.task.id, 0), each))
        seen[each.task.id] = placed[-1][0] + 1
    kinds: dict[str, list[Trajectory]] = {}
    for _, each in sorted(placed, key=lambda two: two[0]):
        kinds.setdefault(each.task.kind, []).append(each)
    return {kind: group[:most] for kind, group in sorted(kinds.items())}


def closeness(
    trajectories: Sequence[Trajectory],
    preferred: Sequence[Trajectory],
    embed: Embed,
    bandwidth: float | None = None,
) -> list[float]:
    """1 - MMD^2 of each trajectory's turns and those of the preferred set together.

    bandwidth: h of the kernel; None: `median_distance` of the preferred turns. Raises `InputError` for an
    empty preferred set and for a trajectory without turns.
    """
    wanted = [embed(each) for each in preferred if each.turns]
    if not wanted:
        raise InputError(
            "the preferred set is empty: nothing to compare with",
            where="similarity: preferred",
            hint="give experts of the task type, or lower least_reward",
        )
    points = np.concatenate(wanted)
    h = median_distance(points) if bandwidth is None else bandwidth
    if empty := next((each for each in trajectories if not each.turns), None):
        raise InputError("a trajectory has no turn", where=empty.task.id, hint="leave it out")
    within = _kernel(points, points, h).mean()  # once: it is the largest of the three
    return [1.0 - _discrepancy(embed(each), points, h, within) for each in trajectories]


@dataclass(frozen=True, slots=True)
class PairRules:
    """Which own episodes of a task are paired by their value."""

    per_task: int
    """Most pairs of a task."""
    least: float
    """Values differ by more than this."""
    margin_turns: int | None = None
    """Rejected is cut at the chosen's turns plus this many; None does not cut."""
    below: float | None = None
    """Only failures, episodes of less reward than this, and of equal rewards; None: any, but never one of a
    lower reward as chosen."""


def pairs_by_value(
    explored: Iterable[Trajectory], values: Mapping[Key, float], rules: PairRules
) -> list[Pair]:
    """Pairs of two episodes of one task, the higher value chosen, the widest differences first.

    values: by task id and sample; episodes without one are left out.
    """
    tasks: dict[str, list[Trajectory]] = {}
    for each in sorted(explored, key=lambda t: (t.task.id, t.sample)):
        counts = rules.below is None or each.reward < rules.below
        if counts and not each.failed and each.turns and key_of(each) in values:
            tasks.setdefault(each.task.id, []).append(each)
    pairs: list[Pair] = []
    for group in tasks.values():
        two = [_ordered(a, b, values) for a, b in combinations(group, 2)]
        two.sort(key=lambda sides: -_difference(sides, values))
        made: list[Pair] = []
        seen: set[frozenset[tuple[object, ...]]] = set()
        for chosen, rejected in two:
            pair = _pair(chosen, rejected, rules.margin_turns)
            said = frozenset(tuple(t.said for t in side.turns) for side in (chosen, rejected))
            wide = _difference((chosen, rejected), values) > rules.least
            if wide and _consistent(chosen, rejected, rules) and said not in seen and pair is not None:
                seen.add(said)
                made.append(pair)
        pairs += made[: rules.per_task]
    return pairs


def hardest(
    explored: Iterable[Trajectory], nearness: Mapping[Key, float], below: float, most: int
) -> list[Trajectory]:
    """`explored` without the failures of a task, episodes of less reward than `below`, beyond the `most` that
    are nearest to the preferred set. Failures without a closeness come last."""
    failures: dict[str, list[Trajectory]] = {}
    episodes = list(explored)
    for each in episodes:
        if each.reward < below:
            failures.setdefault(each.task.id, []).append(each)
    dropped: set[Key] = set()
    for group in failures.values():
        group.sort(key=lambda t: (-nearness.get(key_of(t), -np.inf), t.sample))
        dropped |= {key_of(each) for each in group[most:]}
    return [each for each in episodes if key_of(each) not in dropped]


def with_bonus(
    explored: Iterable[Trajectory], nearness: Mapping[Key, float], weight: float
) -> dict[Key, float]:
    """r + weight * z(c) of the episodes that have a closeness c; z = (c - mean) / deviation over them."""
    episodes = [each for each in explored if key_of(each) in nearness]
    near = np.array([nearness[key_of(each)] for each in episodes])
    spread = float(near.std()) if len(near) else 0.0
    scores = (near - near.mean()) / spread if spread > 1e-9 else np.zeros(len(near))
    return {key_of(t): t.reward + weight * float(z) for t, z in zip(episodes, scores, strict=True)}


def key_of(trajectory: Trajectory) -> Key:
    """Under what values of an episode are kept."""
    return trajectory.task.id, trajectory.sample


def _discrepancy(one: Points, other: Points, bandwidth: float, within_other: float) -> float:
    within = _kernel(one, one, bandwidth).mean() + within_other
    return max(0.0, float(within - 2.0 * _kernel(one, other, bandwidth).mean()))


def _kernel(one: Points, other: Points, bandwidth: float) -> Points:
    return np.exp(-_squared_distances(one, other) / (2.0 * bandwidth**2))


def _squared_distances(one: Points, other: Points) -> Points:
    lengths = (one**2).sum(1)[:, None] + (other**2).sum(1)[None, :]
    return np.maximum(lengths - 2.0 * one @ other.T, 0.0)


def _ordered(
    one: Trajectory, other: Trajectory, values: Mapping[Key, float]
) -> tuple[Trajectory, Trajectory]:
    return (one, other) if values[key_of(one)] >= values[key_of(other)] else (other, one)


def _difference(sides: tuple[Trajectory, Trajectory], values: Mapping[Key, float]) -> float:
    return values[key_of(sides[0])] - values[key_of(sides[1])]


def _consistent(chosen: Trajectory, rejected: Trajectory, rules: PairRules) -> bool:
    same_prompt = (chosen.messages, chosen.tools) == (rejected.messages, rejected.tools)
    gap = chosen.reward - rejected.reward
    return same_prompt and (gap >= 0 if rules.below is None else gap == 0)


def _pair(chosen: Trajectory, rejected: Trajectory, margin_turns: int | None) -> Pair | None:
    if margin_turns is not None:
        rejected = replace(rejected, turns=rejected.turns[: len(chosen.turns) + margin_turns])
    if one_begins_other(chosen, rejected):
        return None
    return Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected))
