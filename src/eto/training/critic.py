"""An offline critic and the update by its advantages: states are turns (after Q-Evolve, arXiv 2606.07367)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eto.credit.advantages import gae, normalised
from eto.losses.policy_gradient import clipped_policy_loss, expectile_loss
from eto.settings.critic import ClippedUpdateSettings, CriticSettings
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit

TARGETS, OLD, ADVANTAGES = "targets", "old", "advantages"


def first_tokens(turns: np.ndarray) -> np.ndarray:
    """Indices of the first of the agent's tokens of each turn; `turns` `[agent tokens]` in order."""
    return np.flatnonzero(np.diff(turns, prepend=-1))


def criticise(
    learner: Learner, examples: Sequence[tuple[Example, float]], settings: CriticSettings, **training: Any
) -> Fit:
    """Training of `learner`, which has a value head, in place: the value before each turn approaches an
    expectile of what episodes from there earned, discount^(turns left) times the reward."""
    prepared = []
    for example, reward in examples:
        starts = first_tokens(example.tree.leaves[0].turns)
        left = np.arange(len(starts) - 1, -1, -1)
        targets = (settings.discount**left * reward).astype(np.float32)
        prepared.append(replace(example, references={TARGETS: (targets,)}, size=float(len(starts))))

    decisive = ("critic", settings.expectile, settings.discount)
    objective = partial(_value_loss, expectile=settings.expectile)
    return learner.fit(prepared, objective, settings, objective_settings=decisive, **training)


def _value_loss(
    example: Example, outputs: Sequence[TokenOutputs], expectile: float
) -> tuple[Tensor, dict[str, float]]:
    [leaf] = outputs
    if leaf.values is None:
        raise RuntimeError("the model has no value head")
    starts = torch.from_numpy(first_tokens(example.tree.leaves[0].turns)).to(leaf.values.device)
    targets = torch.from_numpy(example.references[TARGETS][0]).to(leaf.values.device)
    values = leaf.values[starts]
    loss = expectile_loss(values, targets, expectile)
    return loss.sum(), {"value": float(values.detach().mean()), "return": float(targets.mean())}


def turn_advantages(
    examples: Sequence[tuple[Example, float]],
    values: Sequence[np.ndarray],
    discount: float,
    decay: float,
) -> list[np.ndarray]:
    """For each episode `[agent tokens]` advantages: GAE over its turns, normalised over all turns, and a
    turn's tokens share it. values: for each episode `[agent tokens]`, before each token."""
    by_turn = []
    for (example, reward), estimated in zip(examples, values, strict=True):
        starts = first_tokens(example.tree.leaves[0].turns)
        rewards = np.zeros(len(starts))
        rewards[-1] = reward
        by_turn.append(gae(rewards, estimated[starts], discount, decay)[0])
    spread = []
    for (example, _), each in zip(examples, normalised(by_turn), strict=True):
        starts = first_tokens(example.tree.leaves[0].turns)
        lengths = np.diff([*starts, len(example.tree.leaves[0].turns)])
        spread.append(np.repeat(each, lengths).astype(np.float32))
    return spread


def clipped_update(
    learner: Learner,
    examples: Sequence[tuple[Example, float]],
    old: Sequence[np.ndarray],
    advantages: Sequence[np.ndarray],
    settings: ClippedUpdateSettings,
    *,
    directory: Path | None = None,
    **training: Any,
) -> Fit:
    """Training of `learner` in place on stored episodes: PPO's clipped loss with the advantages of turns.

    old, advantages: for each episode `[agent tokens]`; old are log-probs of the policy as it comes in.
    """
    prepared = [
        replace(example, references={OLD: (before,), ADVANTAGES: (gained,)})
        for (example, _), before, gained in zip(examples, old, advantages, strict=True)
    ]

    decisive = ("clipped update", settings.clip, settings.decay)
    objective = partial(_clipped_loss, clip=settings.clip)
    return learner.fit(
        prepared, objective, settings, objective_settings=decisive, directory=directory, **training
    )


def _clipped_loss(
    example: Example, outputs: Sequence[TokenOutputs], clip: float
) -> tuple[Tensor, dict[str, float]]:
    [leaf] = outputs
    before, gained = (
        torch.from_numpy(example.references[name][0]).to(leaf.log_probs.device) for name in (OLD, ADVANTAGES)
    )
    loss, clipped = clipped_policy_loss(leaf.log_probs, before, gained, clip)
    kl = (before - leaf.log_probs.detach()).mean()
    return loss.sum(), {"clipped": float(clipped.float().mean()), "kl": float(kl)}
