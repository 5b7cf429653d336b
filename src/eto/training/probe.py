"""A model's trial before it is trained: branches of a tree against its own forward pass."""

from __future__ import annotations

from typing import Any

import torch

from eto.models.architecture import base_of, sharing_copy
from eto.models.probe import (
    FOREIGN,
    SPLIT,
    TOKENS,
    compare,
    first_trial,
    narrowed,
    own_logits,
    passed,
    trial_ids,
    unsupported,
)
from eto.tokens.prefix_tree import build_tree
from eto.training.log_probs import TreeLogProbs


def check_training(model: Any, *, plain: bool = False) -> None:
    """Raises `InputError` where log-probs of a tree under `model` are not those of plain rows; `plain`: as
    the backend without fast paths computes them."""
    base, what = base_of(model), "plain training" if plain else "training"
    if not first_trial(base, what):
        return
    one, other = trial_ids(base, 0), trial_ids(base, 1)
    sequences = [one[:SPLIT] + other[SPLIT:], one]
    expected = []
    for ids, logits in zip(sequences, own_logits(base, sequences), strict=True):
        targets = torch.tensor(ids[1:], device=logits.device)[:, None]
        expected.append(logits[:-1].log_softmax(-1).gather(-1, targets))
    tree = build_tree([(ids, [0] * TOKENS) for ids in sequences])
    try:
        with torch.no_grad():
            scorer = TreeLogProbs(narrowed(sharing_copy(base)), owned=True, plain=plain).eval()
            [leaves] = scorer([tree])
    except FOREIGN as error:
        raise unsupported(base, what, repr(error)) from error
    compare(base, what, [leaf[:, None] for leaf in leaves], expected)
    passed(base, what)
