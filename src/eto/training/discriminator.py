"""A discriminator between the agent's actions and the expert's: a model with a value head for its logit.

Its logit for an action is the value before the action's last token, which is the end-of-turn token: the state
and all of the action have been read there. One tree holds an expert's trajectory and what the agent did
instead in each of its states.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eto.credit.discriminator import Judged
from eto.credit.monte_carlo import Branch, sides
from eto.errors import InputError, NothingLeft
from eto.losses.discriminator import discriminator_loss
from eto.settings.discriminator import DiscriminatorSettings
from eto.tokens.fitting import fitted
from eto.tokens.prefix_tree import tree_of
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.types import Trajectory

EXPERT = 0
"""The expert's leaf; each other one is an action of the agent."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An expert's trajectory with the branches from it, to be judged."""

    example: Example
    """Weights: in each state 1 for the expert's action, and 1 for all of the agent's together."""
    branches: tuple[Branch, ...]
    places: tuple[tuple[int, int], ...]
    """For each branch its leaf, and where in the expert's leaf its state is."""
    held_out: bool


def trials(learner: Learner, found: Sequence[Branch], held_out: float, seed: int) -> list[Trial]:
    """Branches by expert; a share of the experts, at least one, is held out, drawn by `seed`. Branches whose
    action or whose expert's does not fit the context are left out. Raises `InputError` for fewer than two
    experts."""
    by_expert: dict[str, list[Branch]] = {}
    for each in found:
        by_expert.setdefault(each.expert.task.id, []).append(each)
    made = []
    for branches in by_expert.values():
        with suppress(NothingLeft):
            made.append(_trial(learner, branches))
    made = [trial for trial in made if trial.branches]
    if len(made) < 2:
        raise InputError(
            f"{len(made)} expert trajectories to compare the agent with, of which one is to be held out",
            where="method.discriminator",
            hint="take more tasks, raise model.max_context, or set method.reward to implicit",
        )
    count = min(max(1, round(held_out * len(made))), len(made) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(made))[:count].tolist())
    return [replace(trial, held_out=number in drawn) for number, trial in enumerate(made)]


def _trial(learner: Learner, branches: Sequence[Branch]) -> Trial:
    """The branches of one expert: a leaf for its trajectory, and one for each distinct action in a state. Of
    all leaves only the last tokens of actions in states that both sides have are kept."""
    distinct: dict[tuple[int, object], list[Branch]] = {}
    for each in branches:
        distinct.setdefault((each.at, each.episode.turns[each.at].said), []).append(each)
    rows, alike = [_rows(learner, branches[0].expert)], []
    for same in distinct.values():
        with suppress(NothingLeft):
            rows.append(_rows(learner, sides(same[0], 1)[1]))
            alike.append(same)
    tree = tree_of(rows)
    at = {same[0].at for same in alike} & set(tree.leaves[EXPERT].turns.tolist())
    last = [_last_tokens(leaf.turns) & np.isin(leaf.turns, list(at)) for leaf in tree.leaves]
    leaves = tuple(leaf.where(wanted) for leaf, wanted in zip(tree.leaves, last, strict=True))
    states = leaves[EXPERT].turns.tolist()
    tried = {state: sum(len(same) for same in alike if same[0].at == state) for state in states}
    weights = [np.ones(len(states), dtype=np.float32)]
    weights += [
        np.full(len(leaf.turns), len(same) / max(1, tried.get(same[0].at, 0)), dtype=np.float32)
        for leaf, same in zip(leaves[1:], alike, strict=True)
    ]
    judged = [
        (branch, (number, states.index(branch.at)))
        for number, same in enumerate(alike, start=1)
        for branch in same
        if branch.at in tried
    ]
    example = Example(replace(tree, leaves=leaves), tuple(weights), size=float(2 * len(states)))
    return Trial(example, tuple(branch for branch, _ in judged), tuple(place for _, place in judged), False)


def _rows(learner: Learner, trajectory: Trajectory) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids, turns) of the samples of `trajectory` that hold a turn with loss."""
    samples = fitted(trajectory, learner.renderer, learner.max_context)
    rows = [(np.asarray(each.ids), np.asarray(each.turns)) for each in samples]
    return [(ids, turns) for ids, turns in rows if (turns >= 0).any()]


def _last_tokens(turns: np.ndarray) -> np.ndarray:
    """`[agent tokens]` bool: the last token of each turn; `turns` in order."""
    return np.diff(turns, append=-1) != 0


def discriminate(
    learner: Learner, tried: Sequence[Trial], settings: DiscriminatorSettings, **training: Any
) -> Fit:
    """Training of `learner`, which has a value head, in place on the trials that are not held out."""
    examples = [trial.example for trial in tried if not trial.held_out]
    return learner.fit(examples, _objective, settings, objective_settings="discriminator", **training)


def _objective(example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
    logits = torch.cat([_logits(leaf) for leaf in outputs])
    of_agent, weights = torch.ones_like(logits), np.concatenate(example.weights)
    of_agent[: len(example.weights[EXPERT])] = 0
    loss = discriminator_loss(logits, of_agent, torch.from_numpy(weights).to(logits.device))
    return loss.sum(), {}


def _logits(leaf: TokenOutputs) -> Tensor:
    if leaf.values is None:
        raise RuntimeError("the model has no value head")
    return leaf.values


def judgements(
    learner: Learner, tried: Sequence[Trial], micro_batch_tokens: int | None = None
) -> list[Judged]:
    """All branches of the trials, with the logits of `learner` as it is."""
    values = learner.values([trial.example.tree for trial in tried], micro_batch_tokens)
    return [
        Judged(branch, float(leaves[leaf][0]), float(leaves[EXPERT][state]), trial.held_out)
        for trial, leaves in zip(tried, values, strict=True)
        for branch, (leaf, state) in zip(trial.branches, trial.places, strict=True)
    ]
