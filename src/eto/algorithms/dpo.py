"""DPO on whole multi-turn trajectories (ETO, section 3.2.2, eq. 11), with a collapse guard.

Deviations from the paper, all off by default: an anchor on the chosen side's likelihood
(IPR, arXiv 2406.11176; RPO, arXiv 2404.19733), replayed expert trajectories, turn weights
(`eto.weights`), IPO, length normalisation, label smoothing. The guard has no counterpart in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eto.algorithms.guard import Guard, GuardSettings
from eto.algorithms.sft import fitted, sft_example
from eto.errors import InputError
from eto.losses import dpo_loss, ipo_loss, log_ratio_margin, sequence_log_prob, sft_loss
from eto.policies.transformers import TransformersPolicy
from eto.training.batches import log_probs_of
from eto.training.loop import Example, Optimisation, optimise
from eto.training.trees import Leaf, tree_of
from eto.types import Pair, Trajectory
from eto.weights import TurnWeighting, turn_weights

CHOSEN, REJECTED = 0, 1


@dataclass(frozen=True, slots=True)
class DpoSettings:
    """Defaults are the paper's for a 7B model."""

    epochs: int = 3
    learning_rate: float = 1e-6
    beta: float = 0.1
    batch_pairs: int = 32
    """Pairs, and replayed trajectories, of an optimiser step."""
    loss: Literal["sigmoid", "ipo", "length_normalised"] = "sigmoid"
    label_smoothing: float = 0.0
    sft_weight: float = 0.0
    """Weight of the chosen side's mean negative log-likelihood."""
    replay_weight: float = 0.0
    """Weight of the mean negative log-likelihood of each replayed trajectory."""
    schedule: str = "constant_with_warmup"
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    micro_batch_tokens: int = 1024
    activation_checkpointing: bool | None = None
    """None: where memory asks for it."""
    checkpoint_seconds: float = 120.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DpoResult:
    """What preference training came to."""

    steps: int
    fired: str | None
    """The guard's rule that stopped training; None where none did."""
    figures: dict[str, float]
    """The last step's figures."""


def dpo(
    policy: TransformersPolicy,
    pairs: Sequence[Pair],
    settings: DpoSettings | None = None,
    *,
    weighting: TurnWeighting | None = None,
    replay: Sequence[Trajectory] = (),
    guard: GuardSettings | None = None,
    directory: Path | None = None,
    on_start: Callable[[dict[str, float]], object] | None = None,
    on_step: Callable[[dict[str, float]], object] | None = None,
    on_epoch: Callable[[int], bool] | None = None,
) -> DpoResult:
    """Train `policy` in place on `pairs`; the policy as it comes in is the reference.

    Its log-probs are computed once, before the first update. `replay` trajectories, such
    as the expert's on tasks that gave no pair, are mixed among the pairs with
    `replay_weight`, against forgetting what is won. `on_start` gets what training will take
    (see `eto.training.loop.optimise`), `on_step` each step's figures; `on_epoch` is called with each
    finished epoch and may return True to stop. With `directory` an interrupted call
    is gone on with. Raises `InputError` where there are no pairs.
    """
    settings = settings or DpoSettings()
    if not pairs:
        raise InputError("no pairs to train on", mend="explore more tasks, or several samples a task")
    examples = [pair_example(policy, pair, weighting or TurnWeighting(), settings) for pair in pairs]
    examples = _with_reference(policy, examples, settings.micro_batch_tokens, directory)
    if settings.replay_weight:
        examples += [sft_example(policy, trajectory, size=1.0) for trajectory in replay]
    watch = Guard(guard or GuardSettings(max_margin=None, max_chosen_drop=None))
    last: dict[str, float] = {}

    def step_done(figures: dict[str, float]) -> bool:
        last.update(figures)
        if on_step is not None:
            on_step(figures)
        stop = watch.step(figures)
        if stop and directory is not None:
            # A kill after this must not lose why training stopped.
            (directory / "fired.txt").write_text(watch.fired, encoding="utf-8")
        return stop

    def epoch_done(epoch: int) -> bool:
        policy.weights_changed()
        return bool(on_epoch and on_epoch(epoch))

    steps = optimise(
        policy.model,
        examples,
        lambda example, leaves: pair_loss(example, leaves, settings),
        Optimisation.of(settings, batch_size=settings.batch_pairs, dtype=policy.dtype),
        directory=directory,
        on_start=on_start,
        on_step=step_done,
        on_epoch=epoch_done if on_epoch else None,
    )
    policy.weights_changed()
    kept = directory / "fired.txt" if directory is not None else None
    fired = kept.read_text(encoding="utf-8") if kept and kept.exists() else watch.fired
    return DpoResult(steps, fired, last)


def pair_loss(
    example: Example, leaves: list[Tensor], settings: DpoSettings
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one pair from both sides' token log-probs `[agent tokens]`, and its figures.

    An example of one side only is a replayed trajectory and has no figures of its own.

    Figures: `margin` beta x log-ratio difference (weighted), `accuracy` 1 where it is
    above 0, `chosen_drift` and `rejected_drift` the sides' log-ratios in nats, each sum
    over the tokens that carry the contrast with weight 1.
    """
    if len(leaves) == 1:
        return settings.replay_weight * sft_loss(leaves[0]), {}
    policy, reference, drift = [], [], []
    for leaf, weights, ref in zip(leaves, example.weights, example.reference, strict=True):
        weight = torch.from_numpy(weights).to(leaf.device)
        ref_leaf = torch.from_numpy(ref).to(leaf.device)
        policy.append(sequence_log_prob(leaf, weight))
        reference.append(sequence_log_prob(ref_leaf, weight))
        drift.append(float((leaf.detach() - ref_leaf)[weight > 0].sum()))
    margin = log_ratio_margin(policy[CHOSEN], policy[REJECTED], reference[CHOSEN], reference[REJECTED])
    if settings.loss == "ipo":
        loss = ipo_loss(margin, settings.beta)
    else:
        loss = dpo_loss(margin, settings.beta, settings.label_smoothing)
    if settings.sft_weight:
        loss = loss + settings.sft_weight * sft_loss(leaves[CHOSEN])
    return loss, {
        "margin": settings.beta * float(margin.detach()),
        "accuracy": float(margin.detach() > 0),
        "chosen_drift": drift[CHOSEN],
        "rejected_drift": drift[REJECTED],
    }


def pair_example(
    policy: TransformersPolicy, pair: Pair, weighting: TurnWeighting, settings: DpoSettings
) -> Example:
    """A pair as a tree that holds what its loss needs, and no more; loss and gradients are the whole's.

    Tokens that both sides share with one weight cancel in the log-ratio difference; nothing
    after a side's last weighted turn is seen by a loss. Both are left out, but for the
    chosen side's where its likelihood is an anchor.
    """
    sides, weights = [], []
    for side, by_turn in zip((pair.chosen, pair.rejected), turn_weights(pair, weighting), strict=True):
        samples = [(np.asarray(each.ids), np.asarray(each.turns)) for each in fitted(policy, side)]
        weight = np.asarray(by_turn, dtype=np.float32)
        if side is pair.rejected or not settings.sft_weight:
            carrying = [sample for sample in samples if _weighted(weight, sample[1]).any()]
            samples = [_up_to_last(weight, *sample) for sample in carrying or samples[:1]]
        sides.append(samples)
        weights.append(weight)
    tree = tree_of(sides)
    by_token = [w[leaf.turns] for w, leaf in zip(weights, tree.leaves, strict=True)]
    if settings.loss == "length_normalised":
        by_token = [w / max(w.sum(), 1e-12) for w in by_token]
    _cancel(tree.leaves, by_token)
    needed = [weight > 0 for weight in by_token]
    if settings.sft_weight:
        needed[CHOSEN][:] = True
    leaves = tuple(leaf.where(wanted) for leaf, wanted in zip(tree.leaves, needed, strict=True))
    return Example(
        replace(tree, leaves=leaves), tuple(w[wanted] for w, wanted in zip(by_token, needed, strict=True))
    )


def _weighted(weight: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """`[tokens]` bool: tokens of turns that have a weight."""
    return (turns >= 0) & (weight[turns] > 0)


def _up_to_last(weight: np.ndarray, ids: np.ndarray, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`ids` and `turns` up to the last token of the last turn that has a weight; whole where none has."""
    carrying = np.flatnonzero(_weighted(weight, turns))
    end = carrying[-1] + 1 if len(carrying) else len(ids)
    return ids[:end], turns[:end]


def _cancel(leaves: Sequence[Leaf], weights: list[np.ndarray]) -> None:
    """Set the weights of predictions that both leaves have, with one weight, to 0 in both."""
    chosen, rejected = (
        {key: at for at, key in enumerate(zip(leaf.sources.tolist(), leaf.targets.tolist(), strict=True))}
        for leaf in leaves
    )
    for key in chosen.keys() & rejected.keys():
        one, other = chosen[key], rejected[key]
        if weights[CHOSEN][one] == weights[REJECTED][other]:
            weights[CHOSEN][one] = weights[REJECTED][other] = 0.0


def _with_reference(
    policy: TransformersPolicy, examples: list[Example], tokens: int, directory: Path | None
) -> list[Example]:
    """Examples with the reference's log-probs, kept in `directory` for a later start."""
    path = directory / "reference.npz" if directory else None
    if path and path.exists():
        with np.load(path) as kept:
            flat = [kept[f"leaf{i}"] for i in range(2 * len(examples))]
    else:
        trees = [example.tree for example in examples]
        scored = log_probs_of(policy.model, trees, policy.dtype, tokens)
        flat = [leaf for leaves in scored for leaf in leaves]
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name("reference.new.npz")
            np.savez(fresh, **{f"leaf{i}": leaf for i, leaf in enumerate(flat)})
            fresh.rename(path)
    return [
        Example(e.tree, e.weights, e.size, (flat[2 * i], flat[2 * i + 1])) for i, e in enumerate(examples)
    ]
