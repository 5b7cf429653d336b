"""How much memory training will take, counted before it begins.

What autograd keeps of a forward pass is counted by running that pass on tensors without
storage, so it holds for any attention and layout of trees. Where an architecture cannot run so,
a short pass is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from eto.cpu.replicas import gradient_sums, keep_little
from eto.models.architecture import sharing_copy
from eto.models.frozen import NF4_BYTES, numbers, plain_layers
from eto.models.private_interfaces import storage_id
from eto.tokens.prefix_tree import Tree, build_tree
from eto.training.log_probs import CHUNK, TreeLogProbs

USABLE = 0.85
"""Share of the free memory that training may plan with."""
MEASURED = 128
"""Tokens of a pass that is measured where it cannot be counted."""


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes at the peak of a training step, by what they hold."""

    weights: int
    """The model as it is now, already in memory."""
    copy: int
    """Weights in the compute type."""
    gradients: int
    """In fp32: one sum for all lanes of a CPU's fast paths, except for weights that are used in other ways
    than by linear layers and embeddings; else each process's."""
    optimiser_state: int
    """AdamW's two averages, or what the learned optimiser keeps."""
    activations: int
    """What a forward pass keeps for its backward pass, and the largest buffers of the latter."""

    @property
    def added(self) -> int:
        """What training takes besides the model."""
        return self.copy + self.gradients + self.optimiser_state + self.activations

    @property
    def total(self) -> int:
        return self.weights + self.added


def planned_memory(
    model: Any,
    batches: Sequence[Sequence[Tree]],
    dtype: torch.dtype,
    checkpointing: bool | None,
    lanes: int = 1,
    *,
    plain: bool = False,
    shared: bool = False,
    entropy: bool = False,
    state_bytes: int = 8,
) -> tuple[TrainingMemory, bool]:
    """Memory of training on the largest of `batches`, and whether activations are recomputed in it:
    as `checkpointing` says or, where that is None, if all would not fit into what is free.

    plain: with torch's own functions, without those written for trees. shared: `lanes` are those of one
    process, with `eto.cpu.replicas`. entropy: of the predictions too.
    state_bytes: what the optimiser keeps of a weight; AdamW 8.
    """
    fullest, longest = max(batches, key=lambda batch: sum(map(len, batch))), max(batches, key=_longest)
    candidates = [fullest] if fullest is longest else [fullest, longest]

    def largest(recomputed: bool) -> TrainingMemory:
        measured = (
            training_memory(
                model,
                batch,
                dtype,
                checkpointing=recomputed,
                lanes=lanes,
                plain=plain,
                shared=shared,
                entropy=entropy,
                state_bytes=state_bytes,
            )
            for batch in candidates
        )
        return max(measured, key=lambda memory: memory.total)

    if checkpointing is None:
        kept = largest(False)
        if kept.added <= USABLE * free_memory(next(model.parameters()).device):
            return kept, False
    recomputed = checkpointing is not False
    return largest(recomputed), recomputed


def _longest(batch: Sequence[Tree]) -> int:
    return max(map(len, batch))


def training_memory(
    model: Any,
    trees: Sequence[Tree],
    dtype: torch.dtype,
    *,
    checkpointing: bool = False,
    lanes: int = 1,
    plain: bool = False,
    shared: bool = False,
    entropy: bool = False,
    state_bytes: int = 8,
) -> TrainingMemory:
    """Memory of training `model`, computing in `dtype`, with `trees` passing at a time.

    `checkpointing`: with the activations inside a layer recomputed in the backward pass. `plain` and `shared`
    as in `planned_memory`. `state_bytes`: what the optimiser keeps of a weight; AdamW 8.
    """
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    width = torch.empty((), dtype=dtype).element_size()
    mixed = dtype != torch.float32
    copied = sum(w.numel() for w in weights if w.is_floating_point() and w.dtype != dtype) if mixed else 0
    packed = [numbers(weight) for weight in weights if not weight.is_floating_point()]
    vocabulary = model.get_output_embeddings().weight.shape[0]
    predictions = min(CHUNK, sum(len(leaf.targets) for tree in trees for leaf in tree.leaves))
    # Under autocast part of what is kept is in fp32: all of it is counted so.
    kept = kept_activations(model, trees, torch.float32 if plain else dtype, plain=plain, shared=shared)
    buffers = 6 if entropy else 2
    if checkpointing:
        config = model.config.get_text_config()
        layers, tokens = config.num_hidden_layers, sum(len(tree) for tree in trees)
        kept = kept // layers + layers * tokens * config.hidden_size * width
    return TrainingMemory(
        weights=sum(weight.numel() * weight.element_size() for weight in weights)
        + round((NF4_BYTES - 0.5) * sum(packed)),
        copy=copied * width,
        gradients=4 * (gradient_sums(model, lanes) if shared else trained * lanes),
        optimiser_state=state_bytes * trained,
        # A layer in 4 bits is read back whole where it computes.
        activations=kept + buffers * 4 * predictions * vocabulary + width * max(packed, default=0),
    )


def kept_activations(
    model: Any, trees: Sequence[Tree], dtype: torch.dtype, *, plain: bool = False, shared: bool = False
) -> int:
    """Bytes that a forward pass over `trees` keeps for its backward pass, weights left out.

    Where the computation depends on values, as the choice of experts does, it cannot run without
    storage: then a pass over the start of a tree is measured instead, and scaled.
    """
    try:
        return _kept_by(_on_meta(model, dtype), trees, plain, shared)
    except RuntimeError:
        short = _prefix(max(trees, key=len))
        width = torch.empty((), dtype=dtype).element_size() / next(model.parameters()).element_size()
        kept = _kept_by(sharing_copy(model), [short], plain, shared)
        return int(kept * width * sum(map(len, trees)) / len(short))


def _kept_by(model: Any, trees: Sequence[Tree], plain: bool, shared: bool) -> int:
    """Bytes that a pass of `model`, a copy of the caller's, keeps besides its weights and buffers."""
    if shared:
        keep_little(model)
    scorer = TreeLogProbs(model, owned=True, plain=plain).train()
    own = {storage_id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if storage_id(tensor) not in own:
            kept[storage_id(tensor)] = tensor
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        outcome = scorer(trees)
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del outcome
    return total


def _on_meta(model: Any, dtype: torch.dtype) -> Any:
    """A copy of `model` without storage, its weights in `dtype`."""
    weights = {id(weight): _without_storage(weight, dtype) for weight in model.parameters()}
    buffers = {id(buffer): _without_storage(buffer, None) for buffer in model.buffers()}
    return copy.deepcopy(model, {**weights, **buffers, **plain_layers(model, dtype)})


def _prefix(tree: Tree) -> Tree:
    """The first `MEASURED` tokens of the longest path in `tree`, all of them predicted."""
    ids = tree.ids[max(tree.paths, key=len)][:MEASURED]
    return build_tree([(ids, np.zeros(len(ids), dtype=np.int64))])


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still take on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def _without_storage(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    meta_dtype = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    empty = torch.empty_like(tensor, dtype=meta_dtype, device="meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
