"""Token log-probabilities of trees under a model: the one forward path of training.

The trees of a batch lie in one row without padding, what they share once. The vocabulary
projection runs only at hidden states that predict a wanted token, in chunks; beyond
`KEPT_LOGITS` their logits are recomputed in the backward pass, so memory grows with
neither the length of the observations nor vocabulary x length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eto.models.architecture import base_of, fix_positions, sharing_copy
from eto.models.logits import logits_of
from eto.tokens.prefix_tree import Row, Tree, lay_out
from eto.training.attention import PLAIN_ATTENTION, TREE_ATTENTION, Layout

CHUNK = 512
"""Predictions projected at a time."""
KEPT_LOGITS = 2**27
"""Logits of a forward pass up to which they are kept for the backward pass."""


@dataclass(frozen=True, slots=True)
class TokenOutputs:
    """What a forward pass returns of one leaf, `[agent tokens]` each, in fp32."""

    log_probs: Tensor
    """Of each token given all before it, in nats."""
    values: Tensor | None = None
    """The value head's estimate in the state before each token; None for a model without one."""
    entropy: Tensor | None = None
    """Of the distribution that each token is drawn from, in nats; None where not asked for."""

    def as_numpy(self, *, values: bool = False) -> np.ndarray:
        """Its log-probs, or its values, without gradient."""
        chosen = self.values if values else self.log_probs
        if chosen is None:
            raise ValueError("the model has no value head")
        return chosen.detach().cpu().numpy()


class TreeLogProbs(nn.Module):
    """Wraps a causal LM; called with trees it returns each leaf's token log-probs.

    A `value_head` of the model, a module hidden size -> 1, gives values beside them.
    """

    def __init__(self, model: Any, *, owned: bool = False, plain: bool = False) -> None:
        """`model` stays as it is: its attention is exchanged in a copy that shares the weights. `owned`:
        nobody else uses it, and no copy is made. `plain`: without autograd functions of our own."""
        super().__init__()
        self.model = model if owned else sharing_copy(model)
        self.model.set_attn_implementation(PLAIN_ATTENTION if plain else TREE_ATTENTION)
        self._score = _plain_score if plain else _score
        fix_positions(self.model)

    def forward(self, trees: Sequence[Tree]) -> list[list[Tensor]]:
        """-> for each tree, for each leaf, `[agent tokens]` log-probs in fp32."""
        return [[leaf.log_probs for leaf in leaves] for leaves in self.outputs(trees)]

    def outputs(self, trees: Sequence[Tree], *, entropy: bool = False) -> list[list[TokenOutputs]]:
        """For each tree, for each leaf, what the pass returns of it."""
        base = base_of(self.model)
        device = base.device
        row = lay_out(trees)
        layout = Layout(row, device)
        hidden = base.get_decoder()(
            input_ids=torch.from_numpy(row.ids)[None].to(device),
            position_ids=layout.depths[None],
            # Four dimensions keep transformers from looking for a mask; `trees` is what is attended by.
            attention_mask=torch.empty((1, 1, 1, 1), device=device),
            trees=layout,
            use_cache=False,
        ).last_hidden_state[0]
        sources, targets, inverse = _predictions(trees, row)
        picked = hidden[torch.from_numpy(sources).to(device)]
        wanted = torch.from_numpy(targets).to(device)
        vocabulary = base.get_output_embeddings().weight.shape[0]
        again = torch.is_grad_enabled() and (entropy or len(sources) * vocabulary > KEPT_LOGITS)
        score = _score_and_entropy if entropy else self._score
        scores = [
            checkpoint(score, base, part, target, use_reentrant=False) if again else score(base, part, target)
            for part, target in zip(picked.split(CHUNK), wanted.split(CHUNK), strict=True)
        ]
        each = torch.cat(scores)
        head = getattr(base, "value_head", None)
        values = None if head is None else head(picked.to(head.weight.dtype)).float()[:, 0]
        lengths = [len(leaf.sources) for tree in trees for leaf in tree.leaves]
        rows = torch.from_numpy(inverse).to(device)
        columns = [each[:, 0], values, each[:, 1]] if entropy else [each, values, None]
        pieces = zip(*(_pieces(column, rows, lengths) for column in columns), strict=True)
        return [[TokenOutputs(*next(pieces)) for _ in tree.leaves] for tree in trees]


def _pieces(values: Tensor | None, rows: Tensor, lengths: list[int]) -> Sequence[Tensor | None]:
    """`values` of the predictions as each leaf's, one leaf after the other."""
    return [None] * len(lengths) if values is None else values[rows].split(lengths)


def _predictions(trees: Sequence[Tree], row: Row) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources in the row and targets of all leaves, those that several share once, and for each
    leaf's predictions, one leaf after the other, which of them they are."""
    keys = [
        np.stack([place[leaf.sources], leaf.targets], 1)
        for tree, place in zip(trees, row.places, strict=True)
        for leaf in tree.leaves
    ]
    unique, inverse = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], inverse.reshape(-1)


def _score(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    return _TokenLogProbs.apply(logits_of(model, hidden), targets)


def _plain_score(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    wide = logits_of(model, hidden).float()
    return wide.log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def _score_and_entropy(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """`[n, 2]`: log-prob of each target, and the entropy of its distribution."""
    wide = logits_of(model, hidden).float().log_softmax(-1)
    return torch.stack((wide.gather(-1, targets[:, None])[:, 0], -(wide.exp() * wide).sum(-1)), 1)


class _TokenLogProbs(torch.autograd.Function):
    """log softmax at one token a row, in fp32: `[n, vocabulary]`, `[n]` -> `[n]`.

    Keeps the logits as they are and nothing of their size in fp32; d/dx = g (onehot - softmax).
    """

    @staticmethod
    def forward(context: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits.float()
        total = wide.logsumexp(-1)
        context.save_for_backward(logits, targets, total)
        return wide.gather(-1, targets[:, None])[:, 0] - total

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[Tensor, None]:
        logits, targets, total = context.saved_tensors
        # One fp32 buffer, whatever the logits' type.
        gradient = torch.sub(logits, total[:, None]).exp_().mul_(-given[:, None])
        gradient.scatter_add_(-1, targets[:, None], given[:, None])
        return gradient.to(logits.dtype), None
