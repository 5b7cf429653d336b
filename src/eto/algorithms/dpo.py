"""DPO on whole multi-turn trajectories (ETO, section 3.2.2, eq. 11), with a collapse guard.

Deviations from the paper, all off by default: an anchor on the chosen side's likelihood
(IPR, arXiv 2406.11176; RPO, arXiv 2404.19733), rehearsed expert trajectories, turn weights
(`eto.weights`), IPO, length normalisation, label smoothing. The guard has no counterpart in the paper.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eto.algorithms.dpo_checks import check_effect
from eto.algorithms.sft import clonable, fitted, sft_examples
from eto.errors import InputError, NothingLeft
from eto.files import disk_errors, write_atomic
from eto.losses import dpo_loss, ipo_loss, log_ratio_margin, sequence_log_prob, sft_loss
from eto.settings import ContrastSettings, DpoSettings, GuardSettings
from eto.training.backends import log_probs
from eto.training.checkpoint import fingerprint
from eto.training.guard import Guard
from eto.training.learner import Learner
from eto.training.loop import Example, at_once, optimise
from eto.training.trees import Leaf, tree_of
from eto.types import Pair, Trajectory
from eto.weights import turn_weights

CHOSEN, REJECTED = 0, 1
LeftOut = dict[str, list[str]]
"""Reasons why pairs are not trained on, and the ids of their tasks."""


@dataclass(frozen=True, slots=True)
class DpoResult:
    """What preference training came to."""

    steps: int
    fired: str | None
    """The guard's rule that stopped training; None where none did."""
    figures: dict[str, float]
    """The last step's figures."""


def dpo(
    policy: Learner,
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
    on_start: Callable[[dict[str, float]], object] | None = None,
    on_step: Callable[[dict[str, float]], object] | None = None,
    on_epoch: Callable[[int], bool] | None = None,
) -> DpoResult:
    """Train `policy` in place on `pairs`; the policy as it comes in is the reference.

    Its log-probs are computed once, before the first update, without dropout. Pairs that, cut to the
    context, have nothing to contrast are left out, see `contrasted`. `rehearsal` trajectories are mixed
    among the pairs with `rehearsal_weight`; one goes with the other. `on_start` gets what training will take
    (see `eto.training.loop.optimise`), `on_step` each step's figures; `on_epoch` is called with each
    finished epoch and may return True to stop. With `directory` an interrupted call is resumed.
    Raises `InputError` where no pairs are left, or a setting has no effect.
    """
    settings = settings or DpoSettings()
    check_effect(settings, policy.model, rehearsal)
    examples = _examples(policy, pairs, contrast or ContrastSettings(), settings)
    examples = _with_reference(policy, examples, at_once(settings), directory)
    if rehearsal:
        examples += sft_examples(policy, clonable(rehearsal), size=1.0)
    watch = Guard(guard or GuardSettings(max_margin=None, max_chosen_drop=None))
    last: dict[str, float] = {}

    def step_done(figures: dict[str, float]) -> bool:
        last.update(figures)
        if on_step is not None:
            on_step(figures)
        stop = watch.step(figures)
        if stop and directory is not None:
            # A kill after this must not lose why training stopped.
            with disk_errors(directory):
                write_atomic(directory / "fired.txt", watch.fired)
        return stop

    def epoch_done(epoch: int) -> bool:
        stop = bool(on_epoch and on_epoch(epoch))
        policy.weights_changed()
        return stop

    policy.weights_changed()
    steps = optimise(
        policy.model,
        examples,
        lambda example, leaves: pair_loss(example, leaves, settings),
        settings,
        seed=seed,
        dtype=policy.dtype,
        fast_paths=policy.fast_paths,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings=_decisive(settings),
        directory=directory,
        on_start=on_start,
        on_step=step_done,
        on_epoch=epoch_done if on_epoch else None,
    )
    note = directory / "fired.txt" if directory is not None else None
    fired = note.read_text(encoding="utf-8") if note and note.exists() else watch.fired
    return DpoResult(steps, fired, last)


def _examples(
    policy: Learner, pairs: Sequence[Pair], contrast: ContrastSettings, settings: DpoSettings
) -> list[Example]:
    """Those of the pairs that have something to contrast. Raises `InputError` where none has."""
    if not pairs:
        raise InputError("no pairs to train on", mend="explore more tasks, or several samples a task")
    kept, left_out = contrasted(policy, pairs, contrast, settings)
    if not kept:
        raise no_pairs_left(left_out, policy.max_context)
    return [example for _, example in kept]


def _decisive(settings: DpoSettings) -> tuple[object, ...]:
    """Values that decide the loss."""
    return (
        *(settings.loss, settings.beta, settings.label_smoothing),
        *(settings.sft_weight, settings.rehearsal_weight),
    )


def contrasted(
    policy: Learner, pairs: Sequence[Pair], contrast: ContrastSettings, settings: DpoSettings
) -> tuple[list[tuple[Pair, Example]], LeftOut]:
    """The pairs that have something to contrast, with their examples, and the others by reason.

    What counts is what is left of both sides within the policy's context: sides that are equal, of which
    one is a beginning of the other, or that have no weighted token of their own, are left out. A warning
    counts them.
    """
    kept, left_out = [], LeftOut()
    for pair in pairs:
        try:
            example = pair_example(policy, pair, contrast, settings)
            reason = _nothing_to_contrast(example)
        except NothingLeft:
            reason = "a side without a turn that carries loss"
        if reason:
            left_out.setdefault(reason, []).append(pair.task.id)
        else:
            kept.append((pair, example))
    if kept and left_out:
        told = (
            f"{len(pairs) - len(kept)} of {len(pairs)} pairs are left out, cut to {policy.max_context} tokens"
        )
        warnings.warn(f"{told}: {_counted(left_out)}", stacklevel=3)
    return kept, left_out


def no_pairs_left(left_out: LeftOut, max_context: int) -> InputError:
    """The error for pairs that all have nothing to contrast."""
    return InputError(
        f"no pair is left to train on, cut to {max_context} tokens: {_counted(left_out)}",
        where="pairs",
        mend="give pairs whose sides differ within the model's context, or raise model.max_context",
    )


def _counted(left_out: LeftOut) -> str:
    return ", ".join(f"{len(ids)} with {reason} ({_named(ids)})" for reason, ids in left_out.items())


def _named(ids: Sequence[str]) -> str:
    return ", ".join([repr(each) for each in ids[:3]] + ["..."] * (len(ids) > 3))


def _nothing_to_contrast(example: Example) -> str:
    """Why the pair has no contrast to train on; "" where it has."""
    chosen, rejected = (
        {(int(s), int(t)) for s, t, w in zip(leaf.sources, leaf.targets, weight, strict=True) if w > 0}
        for leaf, weight in zip(example.tree.leaves, example.weights, strict=True)
    )
    if chosen == rejected:
        return "equal sides"
    if chosen <= rejected or rejected <= chosen:
        return "a side that is a beginning of the other, or carries no contrast of its own"
    return ""


def pair_loss(
    example: Example, leaves: list[Tensor], settings: DpoSettings
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one pair from both sides' token log-probs `[agent tokens]`, and its figures.

    An example of one side only is a rehearsed trajectory and has no figures of its own.

    Figures: `margin` beta x log-ratio difference (weighted), `accuracy` 1 where it is
    above 0, `chosen_drift` and `rejected_drift` the sides' log-ratios in nats, each sum
    over the tokens that carry the contrast with weight 1.
    """
    if len(leaves) == 1:
        return settings.rehearsal_weight * sft_loss(leaves[0]), {}
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


def pair_example(policy: Learner, pair: Pair, contrast: ContrastSettings, settings: DpoSettings) -> Example:
    """A pair as a tree that holds what its loss needs, and no more; loss and gradients are the whole's.

    Tokens that both sides share with one weight cancel in the log-ratio difference; nothing
    after a side's last weighted turn is seen by a loss. Both are left out, but for the
    chosen side's where its likelihood is an anchor.
    """
    sides, weights = [], []
    for side, by_turn in zip((pair.chosen, pair.rejected), turn_weights(pair, contrast), strict=True):
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
    policy: Learner, examples: list[Example], tokens: int, directory: Path | None
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
                    mend="resume with the same pairs and settings, or delete it to train anew",
                )
            flat = [kept[f"leaf{i}"] for i in range(2 * len(examples))]
    else:
        trees = [example.tree for example in examples]
        scored = log_probs(policy.model, trees, policy.dtype, tokens, fast_paths=policy.fast_paths)
        flat = [leaf for leaves in scored for leaf in leaves]
        if path:
            file = io.BytesIO()
            np.savez(file, training=training, **{f"leaf{i}": leaf for i, leaf in enumerate(flat)})
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, file.getvalue())
    return [
        Example(e.tree, e.weights, e.size, (flat[2 * i], flat[2 * i + 1])) for i, e in enumerate(examples)
    ]
