"""Narrow frozen weights below adapters: what is kept, merged, saved and loaded. What needs bitsandbytes runs
where that is installed; it computes on a CPU too."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file
from test_loop import LORA, episodes, pairs

from eto.engines.in_process.acting_model import acting_copy
from eto.errors import InputError, MissingRequirement
from eto.experiment.loading import check_optimisers
from eto.experiment.recipe import parse_recipe
from eto.models import frozen
from eto.settings import DistributedSettings, DpoSettings, SftSettings
from eto.training.backends.single import Single
from eto.training.cloning import cloning, sft_examples
from eto.training.learner import load_learner
from eto.training.policy_gradient import add_value_head
from eto.training.preference import preference

CLONING = SftSettings(epochs=3, learning_rate=1e-2, batch_size=3)
RECIPE = "name: x\nenvironment: {name: bandit}\n"
KINDS = pytest.mark.parametrize(("kind", "dtype"), [("bfloat16", "bfloat16"), ("nf4", "float32")])


def narrow(path, kind="nf4", dtype="float32", **more):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    return load_learner(path, dtype=dtype, lora={**LORA, "frozen": kind}, drafting=False, **more)


def trained(learner):
    """With adapters that are away from their start."""
    assert [step.figures["loss"] for step in cloning(learner, episodes(5), CLONING)][-1] < 7.0
    return learner


def logits(model, dtype="float32"):
    ids = torch.arange(5, 45)[None]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype != "float32")
    with torch.no_grad(), autocast:
        return model.eval()(input_ids=ids).logits.float()


def frozen_weights(learner):
    return {n: w.detach().clone() for n, w in learner.model.named_parameters() if not w.requires_grad}


@KINDS
def test_adapters_learn_and_frozen_weights_stay(tiny_path, kind, dtype):
    learner = narrow(tiny_path, kind, dtype)
    before = frozen_weights(learner)
    trained(learner)
    assert all(torch.equal(value, before[name]) for name, value in frozen_weights(learner).items())
    assert {str(value.dtype) for value in before.values()} == (
        {"torch.bfloat16"} if kind == "bfloat16" else {"torch.uint8", "torch.float32"}
    )
    wide = load_learner(tiny_path, dtype=dtype, lora=LORA)
    held = frozen.frozen_mark(learner.model)
    assert held != frozen.frozen_mark(wide.model) and held == frozen.frozen_mark(
        narrow(tiny_path, kind, dtype).model
    )


@KINDS
def test_what_is_merged_computes_what_was_trained(tiny_path, tmp_path, kind, dtype):
    """In fp32; also as it acts, and as it is saved. Merged into weights of 4 bits it would not."""
    learner = trained(narrow(tiny_path, kind, dtype))
    own = logits(learner.model, dtype)
    whole = frozen.merged(learner.model)
    assert {weight.dtype for weight in whole.parameters()} == {torch.float32}
    close = 1e-4 if kind == "nf4" else 0.3  # the type's rounding in the trained one's pass
    assert (logits(whole) - own).abs().max() < close < own.std() / 5
    torch.testing.assert_close(logits(acting_copy(learner.model, torch.float32)), logits(whole))
    learner.save(tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert kept.keys() == load_file(tiny_path / "model.safetensors").keys()
    assert {each.dtype for each in kept.values()} == {torch.float32}
    loaded = load_learner(tmp_path, dtype="float32")
    torch.testing.assert_close(logits(loaded.model), logits(whole))


@KINDS
def test_an_agent_goes_on_as_it_was(tiny_path, tmp_path, kind, dtype):
    """Its adapters are taken; merged weights, narrowed again, would be others."""
    learner = trained(narrow(tiny_path, kind, dtype))
    learner.save(tmp_path)
    other = narrow(tiny_path, kind, dtype)
    add_value_head(other)
    before = frozen_weights(narrow(tiny_path, kind, dtype))
    other.load(tmp_path)
    assert torch.equal(logits(other.model, dtype), logits(learner.model, dtype))
    assert frozen_weights(other).keys() == before.keys(), "the value head was the one before's"
    assert other.saved == tmp_path
    (tmp_path / frozen.BESIDE).unlink()
    other.load(tmp_path)
    again = logits(other.model, dtype)
    assert not torch.equal(again, logits(learner.model, dtype))
    same = torch.cosine_similarity(again.flatten(), logits(learner.model, dtype).flatten(), dim=0)
    assert 0.8 < same < 0.9999, "near it all the same"


def test_adapters_of_other_frozen_weights_are_not_taken(tiny_path, tmp_path):
    learner = trained(narrow(tiny_path, "bfloat16", "bfloat16"))
    learner.save(tmp_path / "agent")
    assert not frozen.read_adapters(learner.model, tmp_path / "agent", "another mark")
    higher = load_learner(tiny_path, dtype="bfloat16", lora={"rank": 2, "frozen": "bfloat16"})
    assert not frozen.read_adapters(higher.model, tmp_path / "agent", higher._frozen), "of another rank"


def test_bfloat16_below_adapters_equals_fp32_cast_in_each_pass(tiny_path):
    """Both compute with the same rounded weights."""
    found = []
    for kind in ("bfloat16", "float32"):
        learner = load_learner(tiny_path, dtype="bfloat16", lora={**LORA, "frozen": kind})
        with torch.no_grad():
            found.append(
                [leaf for [leaf] in learner.score([e.tree for e in sft_examples(learner, episodes(3))])]
            )
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=0.02)


def test_gradients_through_4_bits(tiny_path):
    """Against a model of fp32 weights read back from the same 4 bits."""
    learner = narrow(tiny_path)
    examples = sft_examples(learner, episodes(4))
    for weight in learner.model.parameters():
        if weight.requires_grad:
            weight.data = 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    from peft.tuners.lora import LoraLayer

    wide = load_learner(tiny_path, dtype="float32", lora=LORA, drafting=False)
    own = dict(wide.model.named_parameters())
    for name, layer in learner.model.named_modules():
        if isinstance(layer, LoraLayer):
            read = frozen._plain_linear(layer.get_base_layer())
            own[f"{name}.base_layer.weight"].data = read.weight.data
    for name, weight in learner.model.named_parameters():
        if weight.requires_grad:
            own[name].data = weight.data.clone()
    gradients = []
    for each in (learner, wide):
        with Single(each.model) as backend:
            backend.begin(torch.float32)
            from eto.training.cloning import _objective

            figures = backend.gradients(examples, _objective, 100)
            gradients.append(
                (figures, {n: w.grad for n, w in each.model.named_parameters() if w.requires_grad})
            )
    (figures, found), (wanted, expected) = gradients
    assert figures == pytest.approx(wanted, rel=1e-5)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_preference_training_over_4_bits_is_resumed(tiny_path, tmp_path):
    settings = DpoSettings(epochs=2, learning_rate=1e-3, batch_size=3)
    rows = []
    for place in (None, tmp_path, tmp_path):
        fit = preference(narrow(tiny_path), pairs(5), settings, directory=place, checkpoint_seconds=-1.0)
        steps = iter(fit)
        stop = len(rows) == 1
        rows.append(
            [next(steps).figures["margin"] for _ in range(2)]
            if stop
            else [s.figures["margin"] for s in steps]
        )
        steps.close()
    assert len(rows[0]) == 4 and rows[2] == pytest.approx(rows[0][1:], abs=1e-5)
    assert abs(rows[0][0]) < 1e-5 < abs(rows[0][-1]), "the reference is the model as it comes in"


def test_memory_of_4_bits(tiny_path):
    learner = narrow(tiny_path)
    fit = cloning(learner, episodes(5), CLONING)
    small = sum(w.numel() for w in learner.model.parameters() if w.dtype == torch.uint8)
    rest = sum(4 * w.numel() for w in learner.model.parameters() if w.is_floating_point())
    assert fit.memory.weights == pytest.approx(small * frozen.NF4_BYTES / 0.5 + rest, rel=1e-3)
    assert fit.memory.copy == 0
    wide = cloning(
        load_learner(tiny_path, dtype="float32", lora=LORA, fast_paths=False), episodes(5), CLONING
    )
    layer = max(2 * w.numel() for w in learner.model.parameters() if w.dtype == torch.uint8)
    assert fit.memory.activations == pytest.approx(wide.memory.activations + 4 * layer, rel=0.1)


# -- what is refused ------------------------------------------------------------------


def test_settings_that_do_not_go_together(tiny_path):
    with pytest.raises(InputError, match="no type of frozen weights") as caught:
        narrow(tiny_path, "int3")
    assert caught.value.where == "model.lora.frozen"
    with pytest.raises(InputError, match="the computation is in float32"):
        narrow(tiny_path, "bfloat16", "float32")
    with pytest.raises(InputError, match=r"lora\.frozen: bfloat16, but dtype: float32; set model\.dtype"):
        parse_recipe(RECIPE + "model: {dtype: float32, lora: {frozen: bfloat16}}")
    for backend in ("ddp", "fsdp2"):
        text = f"model: {{lora: {{frozen: nf4}}}}\ntrain: {{processes: 2, backend: {backend}}}"
        with pytest.raises(InputError, match=r"weights in 4 bits are trained in one process.*bfloat16"):
            parse_recipe(RECIPE + text)


def test_4_bits_in_several_processes_are_refused_before_anything_is_launched(tiny_path):
    learner = narrow(tiny_path, distribution=DistributedSettings(processes=2))
    with pytest.raises(InputError, match="weights in 4 bits are trained in one process"):
        cloning(learner, episodes(4), CLONING)


def test_without_bitsandbytes(tiny_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingRequirement, match="nf4 needs the package bitsandbytes") as caught:
        load_learner(tiny_path, lora={**LORA, "frozen": "nf4"})
    assert "pip install" in caught.value.hint
    with pytest.raises(MissingRequirement, match="nf4 needs the package bitsandbytes"):
        check_optimisers(parse_recipe(RECIPE + "model: {lora: {frozen: nf4}}"))
