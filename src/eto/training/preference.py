"""DPO on whole multi-turn trajectories (ETO, section 3.2.2, eq. 11).

Deviations from the paper, all off by default: an anchor on the chosen side's likelihood
(IPR, arXiv 2406.11176; RPO, arXiv 2404.19733), rehearsed expert trajectories, turn weights
(`eto.credit.turn_weights`), IPO, length normalisation, label smoothing. The guard has no counterpart in the
paper.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eto.data.files import disk_errors, write_atomic
from eto.errors import InputError
from eto.losses.cloning import sft_loss
from eto.losses.preference import (
    apo_zero_loss,
    dpo_loss,
    dpop_loss,
    ipo_loss,
    log_ratio_difference,
    robust_dpo_loss,
    sequence_log_prob,
)
from eto.settings import ContrastSettings, DpoSettings, GuardSettings
from eto.training.backends import ScoringProgress
from eto.training.checkpoint import fingerprint
from eto.training.cloning import clonable, sft_examples
from eto.training.example import Example
from eto.training.guard import exceeded
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.training.pair_examples import CHOSEN, REJECTED, contrasted, no_pairs_left
from eto.training.preference_checks import check_effect
from eto.types import Pair, Trajectory

REFERENCE = "reference"
"""Among an example's references: log-probs of the policy as it came in."""


@dataclass(frozen=True, slots=True)
class DpoResult:
    """What preference training came to."""

    steps: int
    fired: str | None
    """The guard's rule that stopped training; None where none did."""
    figures: dict[str, float]
    """The last step's figures."""


def dpo(
    learner: Learner,
    pairs: Sequence[Pair],
    settings: DpoSettings | None = None,
    *,
    contrast: ContrastSettings | None = None,
    rehearsal: Sequence[Trajectory] | None = None,
    guard: GuardSettings | None = None,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
) -> DpoResult:
    """Train `learner` in place on `pairs`: all of `preference`, at once, unless a bound of `guard` is
    exceeded."""
    fit = preference(
        learner,
        pairs,
        settings,
        contrast=contrast,
        rehearsal=rehearsal,
        seed=seed,
        directory=directory,
        checkpoint_seconds=checkpoint_seconds,
        activation_checkpointing=activation_checkpointing,
    )
    figures: dict[str, float] = {}
    for step in fit:
        figures = step.figures
        if guard is not None and (bound := exceeded(figures, guard)):
            fit.stop(bound)
    return DpoResult(fit.step, fit.stopped, figures)


def preference(
    learner: Learner,
    pairs: Sequence[Pair],
    settings: DpoSettings | None = None,
    *,
    contrast: ContrastSettings | None = None,
    rehearsal: Sequence[Trajectory] | None = None,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
    progress: ScoringProgress | None = None,
) -> Fit:
    """Training of `learner` in place on `pairs`, step by step as it is iterated over; the learner as it
    comes in is the reference.

    Its log-probs are computed once, before the first update, without dropout. Pairs that, cut to the
    context, have nothing to contrast are left out, see `contrasted`. `rehearsal` trajectories are mixed
    among the pairs with `rehearsal_weight`; one goes with the other. With `directory` an interrupted call
    is resumed. `progress`: of scoring the pairs. Raises `InputError` where no pairs are left, or a setting
    has no effect.
    """
    settings = settings or DpoSettings()
    check_effect(settings, learner.model, rehearsal)
    examples = _examples(learner, pairs, contrast or ContrastSettings(), settings)
    examples = with_reference(learner, examples, settings.micro_batch_tokens, directory, progress)
    if rehearsal:
        examples += sft_examples(learner, clonable(rehearsal), size=1.0)
    return learner.fit(
        examples,
        partial(pair_loss, settings=settings),
        settings,
        seed=seed,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings=_decisive(settings),
        directory=directory,
    )


def keep_reference(
    learner: Learner,
    pairs: Sequence[Pair],
    settings: DpoSettings,
    *,
    contrast: ContrastSettings | None = None,
    directory: Path,
    progress: ScoringProgress | None = None,
) -> None:
    """Put the log-probs of `learner` as it is now into `directory`, where `preference`, called with the same
    pairs and settings, takes them for the reference's: another learner than the one it trains."""
    examples = _examples(learner, pairs, contrast or ContrastSettings(), settings)
    with_reference(learner, examples, settings.micro_batch_tokens, directory, progress)


def _examples(
    learner: Learner, pairs: Sequence[Pair], contrast: ContrastSettings, settings: DpoSettings
) -> list[Example]:
    """Those of the pairs that have something to contrast. Raises `InputError` where none has."""
    if not pairs:
        raise InputError("no pairs to train on", hint="explore more tasks, or several samples a task")
    kept, left_out = contrasted(learner, pairs, contrast, settings)
    if not kept:
        raise no_pairs_left(left_out, learner.max_context)
    return [example for _, example in kept]


def _decisive(settings: DpoSettings) -> tuple[object, ...]:
    """Values that decide the loss."""
    decisive: tuple[object, ...] = (
        *(settings.loss, settings.beta, settings.label_smoothing),
        *(settings.sft_weight, settings.rehearsal_weight),
    )
    # Options of later versions count where they are used: earlier states of training stay valid.
    if settings.dpop_penalty:
        decisive += ("dpop_penalty", settings.dpop_penalty)
    if settings.observation_weight:
        decisive += ("observation_weight", settings.observation_weight)
    return (*decisive, "anchor: sum") if settings.anchor == "sum" else decisive


def pair_loss(
    example: Example, outputs: Sequence[TokenOutputs], settings: DpoSettings
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one pair from both sides' outputs, times its size, and its figures.

    An example of one side only is a rehearsed trajectory and has no figures of its own.

    Figures: `margin` beta x log-ratio difference (weighted), `accuracy` 1 where it is
    above 0, `chosen_drift` and `rejected_drift` the sides' log-ratios in nats, each sum
    over the tokens that carry the contrast with weight 1; `chosen_drift_per_token` their mean;
    `observation_nll` of the observations, nats a token, where they are learnt.
    """
    leaves = [leaf.log_probs for leaf in outputs]
    if len(leaves) == 1:
        return settings.rehearsal_weight * sft_loss(leaves[0]), {}
    policy, reference, drift, tokens = [], [], [], []
    sides = zip(leaves[:2], example.weights[:2], example.references[REFERENCE][:2], strict=True)
    for leaf, weights, ref in sides:
        weight = torch.from_numpy(weights).to(leaf.device)
        ref_leaf = torch.from_numpy(ref).to(leaf.device)
        policy.append(sequence_log_prob(leaf, weight))
        reference.append(sequence_log_prob(ref_leaf, weight))
        drift.append(float((leaf.detach() - ref_leaf)[weight > 0].sum()))
        tokens.append(int((weight > 0).sum()))
    difference = log_ratio_difference(*policy, *reference)
    chosen, rejected = (p - r for p, r in zip(policy, reference, strict=True))
    loss = contrast_loss(difference, chosen, rejected, settings)
    if settings.sft_weight:
        share = len(leaves[CHOSEN]) if settings.anchor == "sum" else 1
        loss = loss + settings.sft_weight * share * sft_loss(leaves[CHOSEN])
    observed = {}
    if settings.observation_weight and sum(map(len, leaves[2:])):
        nll = sft_loss(torch.cat(leaves[2:]))
        loss = loss + settings.observation_weight * nll
        observed = {"observation_nll": float(nll.detach())}
    return loss * example.size, observed | {
        "margin": settings.beta * float(difference.detach()),
        "accuracy": float(difference.detach() > 0),
        "chosen_drift": drift[CHOSEN],
        "rejected_drift": drift[REJECTED],
        "chosen_drift_per_token": drift[CHOSEN] / max(1, tokens[CHOSEN]),
    }


def contrast_loss(difference: Tensor, chosen: Tensor, rejected: Tensor, settings: DpoSettings) -> Tensor:
    """The loss that `settings` name, of one pair's log-ratios in nats; each a scalar -> scalar."""
    match settings.loss:
        case "ipo" | "ipo_length_normalised":
            return ipo_loss(difference, settings.beta)
        case "robust":
            return robust_dpo_loss(difference, settings.beta, settings.label_smoothing)
        case "dpop":
            return dpop_loss(chosen, rejected, settings.beta, settings.dpop_penalty)
        case "apo_zero":
            return apo_zero_loss(chosen, rejected, settings.beta)
    return dpo_loss(difference, settings.beta, settings.label_smoothing)


def with_reference(
    learner: Learner,
    examples: list[Example],
    tokens: int | None,
    directory: Path | None,
    progress: ScoringProgress | None = None,
) -> list[Example]:
    """Examples with the reference's log-probs, kept in `directory` for a later start."""
    path = directory / "reference.npz" if directory else None
    training = fingerprint(examples) if path else ""
    if path and path.exists():
        with np.load(path) as kept:
            if str(kept.get("training")) != training:
                raise InputError(
                    "the reference's log-probs here are of other pairs",
                    where=str(path),
                    hint="resume with the same pairs and settings, or delete it to train again",
                )
            flat = [kept[f"leaf{i}"] for i in range(sum(len(e.tree.leaves) for e in examples))]
    else:
        trees = [example.tree for example in examples]
        scored = learner.score(trees, tokens, progress=progress)
        flat = [leaf for leaves in scored for leaf in leaves]
        if path:
            file = io.BytesIO()
            np.savez(file, training=training, **{f"leaf{i}": leaf for i, leaf in enumerate(flat)})
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, file.getvalue())
    scores = iter(flat)
    return [
        replace(
            example,
            references={**example.references, REFERENCE: tuple(next(scores) for _ in example.tree.leaves)},
        )
        for example in examples
    ]
