"""Pairs as examples: what of them a loss sees, and which of them have something to contrast."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eto.credit.turn_weights import turn_weights
from eto.errors import InputError, NothingLeft
from eto.settings import ContrastSettings, DpoSettings
from eto.tokens.fitting import fitted
from eto.tokens.observations import NO_OBSERVATION
from eto.tokens.prefix_tree import Leaf, tree_of
from eto.training.example import Example
from eto.training.learner import Learner
from eto.types import Pair, Trajectory

LENGTH_NORMALISED = {"length_normalised", "ipo_length_normalised"}
"""Losses that divide each log-ratio by the weights of its tokens."""
OF_THE_DIFFERENCE = {"sigmoid", "ipo", "robust", *LENGTH_NORMALISED}
"""Losses in which what both sides share cancels; the others look at each side's log-ratio by itself."""
CHOSEN, REJECTED = 0, 1
"""Leaves of a pair's tree; those of observations come after them."""
LeftOut = dict[str, list[str]]
"""Reasons why pairs are not trained on, and the ids of their tasks."""


def contrasted(
    learner: Learner, pairs: Sequence[Pair], contrast: ContrastSettings, settings: DpoSettings
) -> tuple[list[tuple[Pair, Example]], LeftOut]:
    """The pairs that have something to contrast, with their examples, and the others by reason.

    What counts is what is left of both sides within the learner's context: sides that are equal, of which
    one is a prefix of the other, or that have no weighted token of their own, are left out. A warning
    counts them.
    """
    kept, left_out = [], LeftOut()
    for pair in pairs:
        try:
            example = pair_example(learner, pair, contrast, settings)
            reason = _nothing_to_contrast(example)
        except NothingLeft:
            reason = "a side without a turn that carries loss"
        if reason:
            left_out.setdefault(reason, []).append(pair.task.id)
        else:
            kept.append((pair, example))
    if kept and left_out:
        share = f"{len(pairs) - len(kept)} of {len(pairs)} pairs"
        warnings.warn(
            f"{share} are left out, cut to {learner.max_context} tokens: {_counted(left_out)}", stacklevel=3
        )
    if contrast.gap_weights and kept:
        gaps = [pair.chosen.reward - pair.rejected.reward for pair, _ in kept]
        mean = sum(gaps) / len(gaps)
        if min(gaps) <= 0:
            hint = "leave out pairs of equal rewards, or set contrast.gap_weights to false"
            raise InputError("a pair without a reward difference has no weight", where="pairs", hint=hint)
        kept = [
            (pair, replace(example, size=gap / mean)) for (pair, example), gap in zip(kept, gaps, strict=True)
        ]
    return kept, left_out


def no_pairs_left(left_out: LeftOut, max_context: int) -> InputError:
    """The error for pairs that all have nothing to contrast."""
    return InputError(
        f"no pair is left to train on, cut to {max_context} tokens: {_counted(left_out)}",
        where="pairs",
        hint="give pairs whose sides differ within the model's context, or raise model.max_context",
    )


def _counted(left_out: LeftOut) -> str:
    return ", ".join(f"{len(ids)} with {reason} ({_named(ids)})" for reason, ids in left_out.items())


def _named(ids: Sequence[str]) -> str:
    return ", ".join([repr(each) for each in ids[:3]] + ["..."] * (len(ids) > 3))


def _nothing_to_contrast(example: Example) -> str:
    """Why the pair has no contrast to train on; "" where it has."""
    chosen, rejected = (
        {(int(s), int(t)) for s, t, w in zip(leaf.sources, leaf.targets, weight, strict=True) if w > 0}
        for leaf, weight in zip(example.tree.leaves[:2], example.weights[:2], strict=True)
    )
    if chosen == rejected:
        return "equal sides"
    if chosen <= rejected or rejected <= chosen:
        return "a side that is a prefix of the other, or carries no contrast of its own"
    return ""


def pair_example(learner: Learner, pair: Pair, contrast: ContrastSettings, settings: DpoSettings) -> Example:
    """A pair as a tree that holds what its loss needs, and no more; loss and gradients are the whole's.

    Tokens that both sides share with one weight cancel in the log-ratio difference; nothing
    after a side's last weighted turn is seen by a loss. Both are left out, except for the
    chosen side's where its likelihood is an anchor, and shared tokens where the loss looks at
    each side by itself. With `observation_weight` the sides are whole, and two more leaves hold the tokens
    of the observations that follow their turns with loss, those that both sides share in the first alone.
    """
    sides, weights, watched = [], [], []
    observed = settings.observation_weight > 0
    for side, by_turn in zip((pair.chosen, pair.rejected), turn_weights(pair, contrast), strict=True):
        rendered = fitted(side, learner.renderer, learner.max_context, to_the_end=observed)
        samples = [(np.asarray(each.ids), np.asarray(each.turns)) for each in rendered]
        weight = np.asarray(by_turn, dtype=np.float32)
        if observed:
            watched.append([(np.asarray(each.ids), _heard(side, each.observations)) for each in rendered])
        elif side is pair.rejected or not settings.sft_weight:
            carrying = [sample for sample in samples if _weighted(weight, sample[1]).any()]
            samples = [_up_to_last(weight, *sample) for sample in carrying or samples[:1]]
        sides.append(samples)
        weights.append(weight)
    whole = tree_of([*sides, *watched])
    # Sides and their observations are the same rows.
    tree = replace(whole, leaves=whole.leaves[:2], paths=whole.paths[: sum(map(len, sides))])
    by_token = [w[leaf.turns] for w, leaf in zip(weights, tree.leaves, strict=True)]
    if settings.loss in LENGTH_NORMALISED:
        by_token = [w / max(w.sum(), 1e-12) for w in by_token]
    if settings.loss in OF_THE_DIFFERENCE:
        _cancel(tree.leaves, by_token)
    needed = [weight > 0 for weight in by_token]
    if settings.sft_weight:
        needed[CHOSEN][:] = True
    leaves = tuple(leaf.where(wanted) for leaf, wanted in zip(tree.leaves, needed, strict=True))
    kept = tuple(w[wanted] for w, wanted in zip(by_token, needed, strict=True))
    if observed:
        answers = _once(*whole.leaves[2:])
        leaves, kept = leaves + answers, kept + tuple(np.ones(len(a.targets), np.float32) for a in answers)
    return Example(replace(tree, leaves=leaves), kept)


def _heard(side: Trajectory, observations: Sequence[int]) -> np.ndarray:
    """The marks of the observations that follow a turn with loss, -1 elsewhere."""
    wanted = np.array([*(turn.loss for turn in side.turns), False])  # -1 marks no turn: the last
    marks = np.asarray(observations)
    return np.where(wanted[marks], marks, NO_OBSERVATION)


def _once(one: Leaf, other: Leaf) -> tuple[Leaf, Leaf]:
    """Both, the second without the predictions that the first has too."""
    known = set(zip(one.sources.tolist(), one.targets.tolist(), strict=True))
    pairs = zip(other.sources.tolist(), other.targets.tolist(), strict=True)
    return one, other.where(np.array([pair not in known for pair in pairs], dtype=bool))


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
