"""PPO on the agent's tokens of stored episodes (arXiv 1707.06347), as the ETO paper's baseline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from eto.credit.advantages import gae, normalised, penalised_rewards
from eto.errors import InputError, NothingLeft
from eto.losses.policy_gradient import clipped_policy_loss, clipped_value_loss
from eto.models.architecture import base_of
from eto.settings.policy_gradient import PpoUpdateSettings
from eto.training.cloning import sft_example
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.types import Trajectory

OLD, REFERENCE, VALUES, ADVANTAGES, RETURNS = "old", "reference", "values", "advantages", "returns"
"""What is kept for each token of an episode, among an example's references."""


def add_value_head(learner: Learner, weights: dict[str, Tensor] | None = None) -> nn.Module:
    """Give the learner's model a value head, with `weights` or zeros: values begin at 0."""
    base = base_of(learner.model)
    size = base.config.get_text_config().hidden_size
    head = nn.Linear(size, 1, device=base.device)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.copy_(weights[name]) if weights else parameter.zero_()
    base.value_head = head
    learner.weights_changed()
    return head


def episode_examples(learner: Learner, episodes: Sequence[Trajectory]) -> list[tuple[Example, float]]:
    """The episodes as trees, each with its reward; those that failed or have no agent token within the
    context are left out. Raises `InputError` where none is left."""
    examples = []
    for episode in episodes:
        if not episode.failed and episode.turns:
            with suppress(NothingLeft):
                examples.append((sft_example(learner, episode), episode.reward))
    if not examples:
        raise InputError(
            "no episode to learn from", where="explore", hint="play more tasks, or raise model.max_context"
        )
    return examples


def credited(
    examples: Sequence[tuple[Example, float]],
    old: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    settings: PpoUpdateSettings,
) -> list[Example]:
    """Examples with all that the loss needs: the reward falls on the last token, the penalty on each.

    old, reference, values: for each example `[agent tokens]`, of the policy that acted, of the reference,
    and of the value head. Advantages are normalised over all tokens.
    """
    advantages, returns = [], []
    for (_, reward), log_probs, anchored, estimated in zip(examples, old, reference, values, strict=True):
        rewards = penalised_rewards(log_probs, anchored, reward, settings.kl_weight)
        one, other = gae(rewards, estimated, settings.discount, settings.decay)
        advantages.append(one)
        returns.append(other)
    columns = (old, values, normalised(advantages), returns)
    names = (OLD, VALUES, ADVANTAGES, RETURNS)
    return [
        replace(
            example,
            references={
                name: (np.asarray(column[number], dtype=np.float32),)
                for name, column in zip(names, columns, strict=True)
            },
        )
        for number, (example, _) in enumerate(examples)
    ]


class PpoObjective:
    """The loss of one episode's tokens, summed: policy, value, and less the entropy."""

    def __init__(self, settings: PpoUpdateSettings) -> None:
        self.settings, self.entropy = settings, settings.entropy_weight > 0

    def __call__(self, example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
        [leaf], chosen = outputs, self.settings
        if leaf.values is None:
            raise RuntimeError("the model has no value head")
        kept = {
            name: torch.from_numpy(each[0]).to(leaf.log_probs.device)
            for name, each in example.references.items()
        }
        policy, clipped = clipped_policy_loss(leaf.log_probs, kept[OLD], kept[ADVANTAGES], chosen.clip)
        value = clipped_value_loss(leaf.values, kept[VALUES], kept[RETURNS], chosen.clip)
        loss = policy + chosen.value_weight * value
        figures = {
            "policy_loss": float(policy.detach().mean()),
            "value_loss": float(value.detach().mean()),
            "clipped": float(clipped.float().mean()),
            "kl": float((kept[OLD] - leaf.log_probs.detach()).mean()),
            "return": float(kept[RETURNS].mean()),
        }
        if leaf.entropy is not None:
            loss = loss - chosen.entropy_weight * leaf.entropy
            figures["entropy"] = float(leaf.entropy.detach().mean())
        return loss.sum(), figures


def ppo(
    learner: Learner,
    examples: Sequence[Example],
    settings: PpoUpdateSettings,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
) -> Fit:
    """Training of `learner`, which has a value head, in place on `examples` of `credited`, step by step
    as it is iterated over."""
    decisive = (settings.clip, settings.kl_weight, settings.discount, settings.decay)
    return learner.fit(
        examples,
        PpoObjective(settings),
        settings,
        seed=seed,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings=("ppo", *decisive, settings.value_weight, settings.entropy_weight),
        directory=directory,
    )
