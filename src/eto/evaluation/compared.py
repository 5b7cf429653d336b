"""Methods side by side: reward with its interval, differences to the controls, and costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from eto.evaluation import statistics
from eto.evaluation.costs import Costs
from eto.evaluation.crossed import crossed_bounds
from eto.evaluation.outcomes import FIGURES, Outcome

_INTERVALS = {"reward": statistics.mean_interval, "success": statistics.rate_interval}


def compared(
    outcomes: Mapping[str, Sequence[Outcome]], controls: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """For each label its agents' figures, pooled over seeds, with costs and, by the control's name, the
    paired differences.

    Keys of a row: `seeds` (how many), `agents` (seed by seed), `figures` (`Interval.to_dict` of `FIGURES`
    over tasks, each task's figure being its mean over the seeds), `by_reward` (`Outcome.by_reward`),
    `costs` (means of `Costs` over seeds), `same_as` (the label that stands for the same runs, a recipe's
    where there is one; "" where it is its own), `differences` (control -> figure -> `Difference` over the
    tasks of the seeds that both have, with `seeds_low` and `seeds_high`, bounds over tasks and seeds, and
    `each`, seed by seed).
    outcomes: a label's, one for each seed; labels without any are left out. controls: label -> control's name
    -> the control's label.
    """
    ordered = {label: sorted(each, key=lambda one: one.seed) for label, each in outcomes.items() if each}
    of_others = {label for each in controls.values() for label in each.values()}
    named = sorted(ordered, key=lambda label: label in of_others)  # recipes before controls
    table: dict[str, Any] = {}
    for label, each in ordered.items():
        runs = [(one.seed, one.run) for one in each]
        first = next(other for other in named if [(one.seed, one.run) for one in ordered[other]] == runs)
        table[label] = {
            "seeds": len(each),
            "agents": [one.agent for one in each],
            "by_reward": any(one.by_reward for one in each),
            "figures": {name: _pooled(each, name).to_dict() for name in FIGURES},
            "costs": {name: _mean(each, name) for name in Costs.__slots__},
            "same_as": "" if first == label else first,
            "differences": {
                control: _differences(each, ordered[other])
                for control, other in controls.get(label, {}).items()
                if other in ordered
            },
        }
    return table


def _pooled(outcomes: Sequence[Outcome], name: str) -> statistics.Interval:
    """The figure over tasks, each task's being its mean over the seeds."""
    values: dict[str, list[float]] = defaultdict(list)
    for one in outcomes:
        for task, value in one.values[name].items():
            values[task].append(value)
    return _INTERVALS[name](sum(each) / len(each) for each in values.values())


def _differences(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Figure -> ours minus theirs, paired seed by seed, of the seeds that both have."""
    of_seed = {one.seed: one for one in theirs}
    both = [(one, of_seed[one.seed]) for one in ours if one.seed in of_seed]
    found = {}
    for name in FIGURES:
        pairs = [(one.values[name], other.values[name]) for one, other in both]
        low, high = crossed_bounds(pairs)
        found[name] = {
            **statistics.pooled_difference(pairs).to_dict(),
            "seeds_low": None if low != low else low,
            "seeds_high": None if high != high else high,
            "each": [statistics.paired_difference(*pair, resamples=2).to_dict()["mean"] for pair in pairs],
        }
    return found


def _mean(outcomes: Sequence[Outcome], name: str) -> float:
    return sum(getattr(one.costs, name) for one in outcomes) / len(outcomes)
