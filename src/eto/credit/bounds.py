"""Actions of one state ranked by a bound of what they are worth (after OPARL, arXiv 2312.15965).

The paper's actors maximise max_k Q_k(s, a) and min_k Q_k(s, a). Here, of the actions sampled in a state, that
of the highest bound is preferred to that of the lowest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from eto.credit.contrast import shared_turns
from eto.credit.monte_carlo import Branch, Cut, sides
from eto.types import Pair, StopReason, ToolCall, Trajectory


@dataclass(frozen=True, slots=True)
class Candidate:
    """An action of a state."""

    side: Trajectory
    """The episode up to the action, on which alone loss falls."""
    reward: float | None
    """Of the episode, where the action ended it."""

    @property
    def after(self) -> Cut:
        """The state that it leads to."""
        return Cut(self.side, len(self.side.turns))


def spread_states(episodes: Iterable[Trajectory], count: int) -> list[Cut]:
    """Of each task up to `count` of the different states in which its episodes acted, evenly spread over them
    in their order."""
    by_task: dict[str, dict[tuple[object, ...], Cut]] = {}
    for each in episodes:
        if each.failed:
            continue
        for at in range(len(each.turns)):
            heard = tuple((turn.said, turn.observation) for turn in each.turns[:at])
            by_task.setdefault(each.task.id, {}).setdefault((each.messages, heard), Cut(each, at))
    chosen = []
    for states in (list(found.values()) for found in by_task.values()):
        kept = min(count, len(states))
        chosen += [states[number * len(states) // kept] for number in range(kept)]
    return chosen


def candidates(found: Iterable[Branch]) -> list[list[Candidate]]:
    """For each state its different actions: that of the episode which came there, then those of its branches.
    States with one action are left out."""
    by_state: dict[tuple[int, int], dict[tuple[str, str, tuple[ToolCall, ...]], Candidate]] = {}
    for each in found:
        here = by_state.setdefault((id(each.expert), each.at), {})  # branches of a state share that object
        for whole, side in zip((each.expert, each.episode), sides(each, 1), strict=True):
            ended = whole.stop is StopReason.TERMINATED and len(side.turns) == len(whole.turns)
            here.setdefault(side.turns[-1].said, Candidate(side, whole.reward if ended else None))
    return [list(here.values()) for here in by_state.values() if len(here) > 1]


def best_over_worst(
    states: Sequence[Sequence[Candidate]], worth: Sequence[Sequence[float | None]], least_gap: float = 0.0
) -> list[Pair]:
    """For each state the action of the highest bound over that of the lowest, where these are more than
    `least_gap` apart; loss on these two alone. The first of equals counts.

    worth: the bound of each action of each state; None where it is not known. Clipped to [0, 1], it is the
    reward of the pair's side.
    """
    pairs = []
    for actions, bounds in zip(states, worth, strict=True):
        known = [(bound, each) for bound, each in zip(bounds, actions, strict=True) if bound is not None]
        if not known:
            continue
        best, worst = (choose(known, key=lambda one: one[0]) for choose in (max, min))
        if best[0] - worst[0] > least_gap:
            chosen, rejected = (_side(*each) for each in (best, worst))
            pairs.append(Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected), "action"))
    return pairs


def _side(bound: float, candidate: Candidate) -> Trajectory:
    return replace(candidate.side, reward=min(max(bound, 0.0), 1.0), success=None, score=None)
