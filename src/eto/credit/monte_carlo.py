"""Credit of single steps: what an agent makes of an expert's prefixes, and how well each step goes on.

An episode that follows an expert for some turns and then acts by itself is a branch of the expert's
trajectory. Its first own action is compared with the expert's at the same place: by the reward both ends
came to (ETO, arXiv 2403.02502, appendix B), or by the average reward of several continuations after each
(IPR, arXiv 2406.11176, section 3.2: step rewards by Monte Carlo; HPL, arXiv 2510.03253, for groups of turns).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from eto.credit.contrast import one_begins_other, shared_turns
from eto.types import Pair, PairKind, Prefix, Trajectory


@dataclass(frozen=True, slots=True)
class Cut:
    """A trajectory up to a turn: a state that can be played on from."""

    trajectory: Trajectory
    turns: int
    """Turns up to it."""

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.turns >= len(self.trajectory.turns)

    def begins(self, episode: Trajectory) -> bool:
        """Whether `episode` came to this state: by the same actions, each answered as here."""
        return shared_turns(self.trajectory, episode) >= self.turns

    def prefix(self, tokenizer: str | None) -> Prefix:
        """As the beginning of other episodes. tokenizer: fingerprint of that of the agent that plays on;
        token ids of any other are left out, and all log-probs, which tell what an episode sampled itself."""
        known = tokenizer is not None and self.trajectory.tokenizer == tokenizer
        turns = tuple(
            replace(turn, action_ids=turn.action_ids if known else None, log_probs=None, discarded_tokens=0)
            for turn in self.trajectory.turns[: self.turns]
        )
        return Prefix(self.trajectory.task, turns)


@dataclass(frozen=True, slots=True)
class Branch:
    """An episode that follows an expert's trajectory for `at` turns and then acts by itself."""

    expert: Trajectory
    at: int
    episode: Trajectory

    @property
    def differs(self) -> bool:
        """Whether its first own action is another than the expert's."""
        return self.episode.turns[self.at].said != self.expert.turns[self.at].said

    def gap(self) -> float:
        """Reward of the expert's trajectory minus that of the episode."""
        return self.expert.reward - self.episode.reward

    def after(self, turns: int = 1) -> Cut:
        """The state after so many turns of its own, or at its end."""
        return Cut(self.episode, min(self.at + turns, len(self.episode.turns)))


@dataclass(frozen=True, slots=True)
class Valued:
    """A branch with the values of the states after as many turns of each side."""

    branch: Branch
    expert_value: float
    value: float

    @property
    def gap(self) -> float:
        """By how much the expert's is the better one."""
        return self.expert_value - self.value


def cuts(experts: Iterable[Trajectory], every: int = 1) -> list[Cut]:
    """The states in which each expert acts: before its first turn, and after each `every` turns."""
    return [Cut(expert, at) for expert in experts for at in range(0, len(expert.turns), every)]


def branches(starts: Sequence[Cut], episodes: Sequence[Sequence[Trajectory]]) -> tuple[list[Branch], int]:
    """The branches that the episodes from each of `starts` are, and the number of episodes that are none.

    One is none where the environment answered the expert's actions otherwise than it did the expert, so that
    both sides are in different states, where their prompts differ, or where the agent had no turn of its own.
    """
    found, others = [], 0
    for start, played in zip(starts, episodes, strict=True):
        for episode in played:
            expert = start.trajectory
            prompted = (episode.messages, episode.tools) == (expert.messages, expert.tools)
            if prompted and start.begins(episode) and len(episode.turns) > start.turns:
                found.append(Branch(start.trajectory, start.turns, episode))
            else:
                others += 1
    return found, others


def mean_reward(continuations: Sequence[Trajectory]) -> float | None:
    """(1/N) sum_i r(e_i): the value of a state from which `continuations` were played (IPR, eq. 4 by its
    authors' code). None without any."""
    rewards = [each.reward for each in continuations if not each.failed]
    return sum(rewards) / len(rewards) if rewards else None


def partings(found: Iterable[Branch], min_gap: float = 0.0) -> list[Branch]:
    """The branches that may give a pair: their first own action is another than the expert's, and their
    reward differs from the expert's by more than `min_gap`."""
    return [branch for branch in found if branch.differs and abs(branch.gap()) > min_gap]


def action_pairs(
    found: Iterable[Branch], min_gap: float = 0.0, *, both_directions: bool = True
) -> list[Pair]:
    """Single actions (ETO, appendix B, step-wise): expert's and agent's after one prefix, the one whose
    trajectory ended with the higher reward is chosen; loss falls on these two actions alone. An action that
    was sampled several times after one prefix gives a pair once.

    min_gap: rewards differ by more than this. both_directions: the agent's action may be the chosen one.
    """
    pairs, seen = [], set()
    for each in partings(found, min_gap):
        key = each.expert.task.id, each.at, each.episode.turns[each.at].said
        if key not in seen and (both_directions or each.gap() > 0):
            pairs.append(pair_of(each, each.gap() > 0, "action", turns=1))
            seen.add(key)
    return pairs


def step_pairs(
    valued: Iterable[Valued], threshold: float, min_gap: float = 0.0, *, both_directions: bool = True
) -> list[Pair]:
    """Suffixes after one prefix (IPR, section 3.3): of expert and agent the side whose step has the higher
    value and whose trajectory ended with the higher reward is chosen; loss falls on all turns after the
    prefix.

    threshold: values differ by more than this (tau). min_gap: rewards differ by more than this.
    both_directions: the agent's side may be the chosen one, as in the authors' code.
    """
    pairs = []
    for each in valued:
        gap = each.branch.gap()
        if not both_directions and gap < 0:
            continue
        if abs(gap) > min_gap and each.gap * (1 if gap > 0 else -1) > threshold:
            pair = pair_of(each.branch, gap > 0, "suffix")
            if not one_begins_other(pair.chosen, pair.rejected):
                pairs.append(pair)
    return pairs


def pair_of(branch: Branch, expert_chosen: bool, kind: PairKind, turns: int | None = None) -> Pair:
    """Both sides after the prefix, up to `turns` turns each. The prefix is context that carries no loss."""
    expert, own = sides(branch, turns)
    chosen, rejected = (expert, own) if expert_chosen else (own, expert)
    return Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected), kind)


def sides(branch: Branch, turns: int | None = None) -> tuple[Trajectory, Trajectory]:
    """The expert's trajectory and the episode, up to `turns` turns after the prefix, which has no loss."""
    return _after(branch.expert, branch.at, turns), _after(branch.episode, branch.at, turns)


def _after(trajectory: Trajectory, at: int, turns: int | None) -> Trajectory:
    end = len(trajectory.turns) if turns is None else at + turns
    context = tuple(replace(turn, loss=False) for turn in trajectory.turns[:at])
    return replace(trajectory, turns=context + trajectory.turns[at:end])
