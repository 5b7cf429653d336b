"""Preference training without pairs: trajectories that are desirable, and some that are not (KTO, arXiv
2402.01306)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eto.errors import InputError, NothingLeft
from eto.losses.preference import kto_loss, sequence_log_prob
from eto.settings.training import KtoSettings
from eto.training.cloning import sft_example
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.training.preference import REFERENCE, with_reference
from eto.types import Trajectory

DESIRABLE = "desirable"


def unpaired(
    learner: Learner,
    desirable: Sequence[Trajectory],
    undesirable: Sequence[Trajectory],
    settings: KtoSettings,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
) -> Fit:
    """Training of `learner` in place on trajectories of both sorts, step by step as it is iterated over; the
    learner as it comes in is the reference.

    The reference point is 0: the policy is the reference at the start. Raises `InputError` where one of the
    two sorts is not there, for then nothing holds the other back.
    """
    examples = []
    for wanted, group in ((1.0, desirable), (0.0, undesirable)):
        made = _examples(learner, group, wanted)
        if not made:
            sort = "desirable" if wanted else "undesirable"
            raise InputError(
                f"no {sort} trajectory to train on",
                where="method.least_reward",
                hint="choose it between the rewards that the agent earns; rft and nat need no failures",
            )
        examples += made
    examples = with_reference(learner, examples, settings.micro_batch_tokens, directory)

    def objective(example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
        log_probs = outputs[0].log_probs
        reference = torch.from_numpy(example.references[REFERENCE][0]).to(log_probs.device)
        ratio = sequence_log_prob(log_probs) - sequence_log_prob(reference)
        wanted = bool(example.references[DESIRABLE][0][0])
        weight = settings.desirable_weight if wanted else settings.undesirable_weight
        loss = weight * kto_loss(ratio, torch.tensor(wanted, device=ratio.device), settings.beta)
        sort = "desirable_drift" if wanted else "undesirable_drift"
        return loss, {sort: float(ratio.detach())}

    decisive = ("kto", settings.beta, settings.desirable_weight, settings.undesirable_weight)
    return learner.fit(
        examples,
        objective,
        settings,
        seed=seed,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings=decisive,
        directory=directory,
    )


def _examples(learner: Learner, trajectories: Sequence[Trajectory], wanted: float) -> list[Example]:
    examples = []
    for trajectory in trajectories:
        if not trajectory.failed and trajectory.turns:
            with suppress(NothingLeft):
                label = {DESIRABLE: (np.array([wanted], dtype=np.float32),)}
                examples.append(replace(sft_example(learner, trajectory, size=1.0), references=label))
    return examples
