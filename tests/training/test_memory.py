"""The estimate of memory counts what autograd really keeps."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model
from torch.autograd.graph import saved_tensors_hooks

from eto.cpu.replicas import Replicas
from eto.models.adapters import add_lora
from eto.tokens.prefix_tree import build_tree, lay_out
from eto.training import log_probs
from eto.training.log_probs import TreeLogProbs
from eto.training.memory import kept_activations, training_memory


def trees(length: int):
    sides = [
        ([*range(length)], [-1] * 8 + [0] * (length - 8)),
        ([*range(length // 2), 7], [-1] * 9 + [0] * (length // 2 - 8)),
    ]
    return [build_tree(sides), build_tree([([*range(5, 5 + length)], [-1] * 8 + [0] * (length - 8))])]


def really_kept(model, batch, plain: bool = False) -> int:
    own = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}
    found = {}

    def keep(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            found[place] = tensor
        return tensor

    model.train()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        outcome = TreeLogProbs(model, plain=plain)(batch)
    assert outcome
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [40, 200])
def test_counted_without_storage_is_what_a_real_pass_keeps(dtype, length):
    model = tiny_model(434)
    batch = trees(length)
    expected = really_kept(Replicas(model, dtype).models[0], batch)
    assert kept_activations(model, batch, dtype, shared=True) == pytest.approx(expected, rel=0.02)
    assert all(weight.device.type == "cpu" for weight in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lane_keeps_what_cannot_be_computed_again_and_no_more(dtype):
    """Of each token and layer: what the two norms take in, queries, keys and values, what attention gives,
    and both sides of the gated product."""
    model, batch = tiny_model(434), trees(200)
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    numbers = 2 * config.hidden_size + heads * size + 2 * config.intermediate_size
    tokens = len(lay_out(batch).ids)
    predictions = sum(len(leaf.targets) for tree in batch for leaf in tree.leaves)
    layers = config.num_hidden_layers * numbers * tokens + config.hidden_size * tokens
    head = predictions * (434 + config.hidden_size)
    positions = 2 * size * tokens
    bound = dtype.itemsize * (layers + head + positions) + 32 * tokens
    kept = really_kept(Replicas(model, dtype).models[0], batch)
    assert kept <= bound
    assert really_kept(model, batch) > 1.5 * kept, "autograd alone keeps more"


@pytest.mark.parametrize("length", [40, 200])
def test_plain_passes_are_counted_as_they_are(length):
    model, batch = tiny_model(434), trees(length)
    expected = really_kept(model, batch, plain=True)
    counted = kept_activations(model, batch, torch.float32, plain=True)
    assert expected <= counted <= 1.06 * expected, "never too little"
    assert counted != kept_activations(model, batch, torch.float32), "other passes keep other things"


@pytest.mark.parametrize("length", [40, 400])
def test_under_autocast_never_too_little_is_planned(length):
    model, batch = tiny_model(900), trees(length)
    with torch.autocast("cpu", torch.bfloat16):
        kept = really_kept(model, batch, plain=True)
    planned = training_memory(model, batch, torch.bfloat16, plain=True)
    buffers = 2 * 4 * 900 * min(512, sum(len(leaf.targets) for tree in batch for leaf in tree.leaves))
    assert kept <= planned.copy + planned.activations - buffers


def test_recomputed_logits_are_not_counted(monkeypatch):
    model = tiny_model(434)
    whole = kept_activations(model, trees(200), torch.float32)
    monkeypatch.setattr(log_probs, "KEPT_LOGITS", 0)
    expected = really_kept(model, trees(200))
    assert kept_activations(model, trees(200), torch.float32) == pytest.approx(expected, rel=0.02)
    assert expected < whole


def test_parts_by_hand():
    model = tiny_model(434)
    size = sum(weight.numel() for weight in model.parameters())
    plain = training_memory(model, trees(40), torch.float32)
    assert (plain.weights, plain.copy, plain.gradients, plain.optimiser_state) == (
        4 * size,
        0,
        4 * size,
        8 * size,
    )
    mixed = training_memory(model, trees(40), torch.bfloat16)
    assert (mixed.weights, mixed.copy) == (4 * size, 2 * size)
    assert training_memory(model, trees(40), torch.float32, lanes=3).gradients == 12 * size
    norms = sum(weight.numel() for weight in model.parameters() if weight.ndim == 1)
    shared = training_memory(model, trees(40), torch.float32, lanes=3, shared=True)
    assert shared.gradients == 4 * (size + 2 * norms), "lanes of one process share all but those of norms"
    assert mixed.total == mixed.weights + mixed.added


def test_adapters_alone_have_gradients():
    model = add_lora(tiny_model(434), rank=4, alpha=8.0, dropout=0.0)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    found = training_memory(model, trees(40), torch.float32)
    assert (found.gradients, found.optimiser_state) == (4 * trained, 8 * trained)
    assert found.weights > 10 * found.gradients


def test_checkpointing_takes_less_and_the_more_so_the_longer():
    model = tiny_model(434)
    for length in (100, 400):
        whole = training_memory(model, trees(length), torch.float32).activations
        assert training_memory(model, trees(length), torch.float32, checkpointing=True).activations < whole
