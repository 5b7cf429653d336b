"""Token log-probabilities of trees under a model: the one forward path of training.

The vocabulary projection runs only at hidden states that predict an agent token, in
chunks whose logits are recomputed in the backward pass, so memory grows with neither
the length of the observations nor vocabulary x length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eto.policies.engine import project
from eto.training.attention import TREE_ATTENTION
from eto.training.trees import Tree

CHUNK = 512
"""Predictions projected at a time."""


class TreeLogProbs(nn.Module):
    """Wraps a causal LM; called with trees it returns each leaf's token log-probs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        model.set_attn_implementation(TREE_ATTENTION)

    def forward(self, trees: Sequence[Tree]) -> list[list[Tensor]]:
        """-> for each tree, for each leaf, `[agent tokens]` log-probs in fp32."""
        base = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        device = base.device
        ids, positions, visible = _pad(trees)
        depths = torch.from_numpy(positions).to(device)
        hidden = base.get_decoder()(
            input_ids=torch.from_numpy(ids).to(device),
            position_ids=depths,
            depths=depths,
            attention_mask=torch.where(torch.from_numpy(visible)[:, None], 0.0, -torch.inf).to(device),
            use_cache=False,
        ).last_hidden_state
        leaves = [leaf for tree in trees for leaf in tree.leaves]
        rows = np.concatenate(
            [np.full(len(leaf.sources), row) for row, t in enumerate(trees) for leaf in t.leaves]
        )
        sources = np.concatenate([leaf.sources for leaf in leaves])
        targets = np.concatenate([leaf.targets for leaf in leaves])
        # Tokens shared by several leaves are projected once.
        keys = np.stack([rows, sources, targets], 1)
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        picked = hidden[torch.from_numpy(unique[:, 0]).to(device), torch.from_numpy(unique[:, 1]).to(device)]
        wanted = torch.from_numpy(unique[:, 2]).to(device)
        scores = torch.cat(
            [
                checkpoint(_score, base, part, target, use_reentrant=False)
                if torch.is_grad_enabled()
                else _score(base, part, target)
                for part, target in zip(picked.split(CHUNK), wanted.split(CHUNK), strict=True)
            ]
        )[torch.from_numpy(inverse.reshape(-1)).to(device)]
        pieces = iter(scores.split([len(leaf.sources) for leaf in leaves]))
        return [[next(pieces) for _ in tree.leaves] for tree in trees]


def _score(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = project(model, hidden).float()
    return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)


def _pad(trees: Sequence[Tree]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right-padded `[rows, longest]` ids and positions and `[rows, longest, longest]` visibility."""
    longest = max(len(tree) for tree in trees)
    ids = np.zeros((len(trees), longest), dtype=np.int64)
    positions = np.zeros_like(ids)
    visible = np.zeros((len(trees), longest, longest), dtype=bool)
    for row, tree in enumerate(trees):
        size = len(tree)
        ids[row, :size], positions[row, :size] = tree.ids, tree.positions
        visible[row, :size, :size] = tree.visible()
        # A row of the mask without any visible column would give NaN.
        visible[row, range(size, longest), range(size, longest)] = True
    return ids, positions, visible


@torch.no_grad()
def leaf_log_probs(
    scorer: nn.Module, batches: Sequence[Sequence[Tree]], autocast: Any
) -> list[list[list[np.ndarray]]]:
    """Log-probs of every leaf without gradients, e.g. of the reference; batch -> tree -> leaf."""
    scorer.eval()
    result = []
    for batch in batches:
        with autocast():
            result.append([[leaf.cpu().numpy() for leaf in tree] for tree in scorer(batch)])
    return result
