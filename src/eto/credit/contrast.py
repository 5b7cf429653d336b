"""Trajectories to pairs: what the agent did against what the expert did, by reward.

The rule is that of ETO (Song et al., ACL 2024, section 3.2): of two trajectories of one
task the one with the higher reward is chosen, the other rejected, equal ones are dropped,
and the rejected side ends a few turns after the length of the chosen one. Where the
default differs from the paper's code, docs/contrast.md says why.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Literal, get_args

from eto.settings import ContrastSettings
from eto.settings.limits import Seed, check_values
from eto.types import Pair, ToolCall, Trajectory

Outcome = Literal[
    "wins",
    "losses",
    "ties",
    "failed",
    "empty",
    "no_partner",
    "partners",
    "prompt_differs",
    "no_parting",
    "duplicates",
    "wins_unused",
    "over_task_cap",
    "over_kind_cap",
]


@dataclass(frozen=True, slots=True)
class ContrastSummary:
    """The outcome of every explored trajectory; the counts add up to their number. With `match: widest` two
    explored ones that are compared count once more."""

    wins: int = 0
    """Pairs whose chosen side is the explored trajectory."""
    losses: int = 0
    """Pairs whose chosen side is the expert's."""
    ties: int = 0
    failed: int = 0
    """Environment or engine failed: set aside."""
    empty: int = 0
    """No agent turn."""
    no_partner: int = 0
    """No usable expert trajectory of the same task."""
    partners: int = 0
    """Explored trajectories that stood in for an expert."""
    prompt_differs: int = 0
    no_parting: int = 0
    """One side, cut, is a prefix of the other: nothing to prefer."""
    duplicates: int = 0
    """Same actions as an earlier sample of the task."""
    wins_unused: int = 0
    """Better than the expert while `both_directions` is off."""
    over_task_cap: int = 0
    over_kind_cap: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """Pairs by task kind."""
    experts_unusable: int = 0
    """Expert trajectories that failed or have no agent turn; not part of the sum."""

    @property
    def pairs(self) -> int:
        return self.wins + self.losses

    @property
    def explored(self) -> int:
        """Number of explored trajectories looked at."""
        return sum(getattr(self, each.name) for each in fields(self) if each.name in _OUTCOMES)


_OUTCOMES = frozenset(get_args(Outcome))
Judgement = tuple[Outcome, Pair | None]
Said = tuple[str, str, tuple[ToolCall, ...]]


@dataclass(frozen=True, slots=True)
class ContrastResult:
    """The pairs, and the outcome of the trajectories that gave none."""

    pairs: list[Pair]
    summary: ContrastSummary


def contrast(
    expert: Iterable[Trajectory],
    explored: Iterable[Trajectory],
    settings: ContrastSettings | None = None,
    *,
    seed: Seed = 0,
) -> list[Pair]:
    """Pairs of expert and explored trajectories, sorted by task id, then sample.

    `seed` draws which pairs stay where `settings.per_kind` bounds them. Use `contrast_result` to learn
    why a trajectory gave no pair.
    """
    return contrast_result(expert, explored, settings, seed=seed).pairs


def contrast_result(
    expert: Iterable[Trajectory],
    explored: Iterable[Trajectory],
    settings: ContrastSettings | None = None,
    *,
    seed: Seed = 0,
) -> ContrastResult:
    """As `contrast`, with the counts."""
    check_values(contrast_result, {"seed": seed})
    rules = settings or ContrastSettings()
    expert = list(expert)
    usable = [each for each in expert if not each.failed and each.turns]
    partners = {task_id: _best(group) for task_id, group in _by_task(usable).items()}
    judgements: list[Judgement] = []
    for task_id, group in sorted(_by_task(explored).items()):
        judgements += _contrast_task(partners.get(task_id), group, rules)
    judgements = _cap_kinds(judgements, rules, seed)
    pairs = [pair for _, pair in judgements if pair is not None]
    counts: Counter[str] = Counter(outcome for outcome, _ in judgements)
    kinds = dict(sorted(Counter(pair.task.kind for pair in pairs).items()))
    summary = ContrastSummary(**counts, kinds=kinds, experts_unusable=len(expert) - len(usable))
    return ContrastResult(pairs, summary)


def accumulated(earlier: Iterable[Pair], pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs of earlier rounds, or made in another way, then `pairs`. What is said and heard alike on both
    sides is one pair, however often it was played; the latest stays."""
    distinct: dict[tuple[object, ...], Pair] = {}
    for pair in (*earlier, *pairs):
        key = (pair.task.id, pair.kind, _heard(pair.chosen), _heard(pair.rejected))
        distinct.pop(key, None)
        distinct[key] = pair
    return list(distinct.values())


def _heard(trajectory: Trajectory) -> tuple[object, ...]:
    return tuple((turn.said, turn.observation, turn.loss) for turn in trajectory.turns)


def shared_turns(one: Trajectory, other: Trajectory) -> int:
    """Number of leading turns in which the agent said the same (calls and thoughts included) and
    the environment answered the same."""
    shared = 0
    for mine, theirs in zip(one.turns, other.turns, strict=False):
        if (mine.said, mine.observation, mine.answers) != (theirs.said, theirs.observation, theirs.answers):
            break
        shared += 1
    return shared


def one_begins_other(one: Trajectory, other: Trajectory) -> bool:
    """Whether one of two trajectories is a prefix of the other, or equal to it: nothing to prefer.

    What answers the last turn of the shorter one does not count, for no turn of it follows.
    """
    shorter = min(len(one.turns), len(other.turns))
    if shorter == 0:
        return True
    last = shorter - 1
    mine, theirs = (replace(side, turns=side.turns[:last]) for side in (one, other))
    return shared_turns(mine, theirs) == last and one.turns[last].said == other.turns[last].said


def _by_task(trajectories: Iterable[Trajectory]) -> dict[str, list[Trajectory]]:
    groups: dict[str, list[Trajectory]] = {}
    for each in trajectories:
        groups.setdefault(each.task.id, []).append(each)
    return groups


def _best(group: Sequence[Trajectory]) -> Trajectory:
    """Highest reward; of equals the lowest sample number, then the first given."""
    return min(group, key=lambda each: (-each.reward, each.sample))


def _contrast_task(
    partner: Trajectory | None, group: list[Trajectory], rules: ContrastSettings
) -> list[Judgement]:
    group = sorted(group, key=lambda each: each.sample)
    usable = [each for each in group if not each.failed and each.turns]
    if partner is None and rules.agent_pairs and usable:
        partner = _best(usable)
    compared: list[tuple[Trajectory | None, Trajectory]] = [(partner, each) for each in group]
    if rules.match == "widest":
        compared = _widest_first(compared, usable, partner, rules)
    judgements: list[Judgement] = []
    seen: set[frozenset[tuple[Said, ...]]] = set()
    made = 0
    for against, each in compared:
        outcome, pair = _judge(against, each, rules)
        if pair is not None and against is not None:
            said = frozenset(tuple(turn.said for turn in side.turns) for side in (against, each))
            if said in seen:
                outcome, pair = "duplicates", None
            elif made == rules.per_task:
                outcome, pair = "over_task_cap", None
            else:
                made += 1
            seen.add(said)
        judgements.append((outcome, pair))
    return judgements


def _widest_first(
    compared: list[tuple[Trajectory | None, Trajectory]],
    usable: Sequence[Trajectory],
    partner: Trajectory | None,
    rules: ContrastSettings,
) -> list[tuple[Trajectory | None, Trajectory]]:
    """Comparisons with the partner and, where `agent_pairs`, of every two explored trajectories, the better
    one first; by falling reward difference, of equals in their order."""
    if rules.agent_pairs:
        others = [each for each in usable if each is not partner]
        for one, other in combinations(others, 2):
            compared.append((one, other) if one.reward >= other.reward else (other, one))
    return sorted(compared, key=lambda two: -abs(two[0].reward - two[1].reward) if two[0] else 0.0)


def _judge(partner: Trajectory | None, explored: Trajectory, rules: ContrastSettings) -> Judgement:
    """What one explored trajectory gives, caps and duplicates aside."""
    if explored.failed:
        return "failed", None
    if not explored.turns:
        return "empty", None
    if partner is None:
        return "no_partner", None
    if explored is partner:
        return "partners", None
    if (explored.messages, explored.tools) != (partner.messages, partner.tools):
        return "prompt_differs", None
    if abs(explored.reward - partner.reward) <= rules.min_gap:
        return "ties", None
    won = explored.reward > partner.reward
    if won and not rules.both_directions:
        return "wins_unused", None
    pair = _pair(*((explored, partner) if won else (partner, explored)), rules.margin_turns)
    if one_begins_other(pair.chosen, pair.rejected):
        return "no_parting", None
    return ("wins" if won else "losses"), pair


def _pair(chosen: Trajectory, rejected: Trajectory, margin_turns: int | None) -> Pair:
    if margin_turns is not None:
        rejected = replace(rejected, turns=rejected.turns[: len(chosen.turns) + margin_turns])
    return Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected))


def _cap_kinds(judgements: list[Judgement], rules: ContrastSettings, seed: int) -> list[Judgement]:
    if rules.per_kind is None:
        return judgements
    places: dict[str, list[int]] = {}
    for place, (_, pair) in enumerate(judgements):
        if pair is not None:
            places.setdefault(pair.task.kind, []).append(place)
    capped = list(judgements)
    for kind, positions in places.items():
        # Seeded by kind: what one kind gives does not depend on the others.
        kept = set(random.Random(f"{seed}/{kind}").sample(positions, min(rules.per_kind, len(positions))))
        for place in positions:
            if place not in kept:
                capped[place] = ("over_kind_cap", None)
    return capped
