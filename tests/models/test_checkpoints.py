"""Models that are not whole, not theirs or not trainable end in one message, before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny import save_tiny
from transformers import AutoModelForCausalLM, BloomConfig

from eto.errors import InputError, MissingRequirement
from eto.models import disk_room as room
from eto.models.architecture import chosen_context
from eto.models.disk_room import check_room, needed_bytes
from eto.training.learner import load_learner

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "model"))


def refused(path: object, *words: str, **options: object) -> None:
    with pytest.raises(InputError) as caught:
        load_learner(path, dtype="float32", **options)
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


# -- tensors --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_missing_tensor_is_not_made_up(folder, name):
    edit_weights(folder, lambda weights: weights.pop(name))
    refused(folder, f"missing: {name}")


def test_tensors_beyond_the_models_are_refused(folder):
    edit_json(folder / "config.json", num_hidden_layers=1)
    refused(folder, "not in the model: model.layers.1.input_layernorm.weight", "6 more")


def test_another_shape_is_refused_with_both(folder):
    edit_json(folder / "config.json", vocab_size=500)
    refused(folder, "lm_head.weight is 432 x 64, not 500 x 64")


def test_weights_of_another_architecture_are_refused(folder):
    edit_json(folder / "config.json", model_type="gpt2", n_embd=64, n_head=4, n_layer=2)
    refused(folder, "missing: transformer.h.0", "not in the model: model.embed_tokens.weight")


def test_frequencies_saved_by_old_versions_are_ignored(folder):
    key = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_weights(folder, lambda weights: weights.update({key: torch.ones(8)}))
    assert load_learner(folder).max_context == 512


def test_a_tied_output_layer_may_be_absent_but_not_differ(tmp_path):
    folder = save_tiny(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    model = load_learner(folder).model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    edit_weights(folder, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"] + 1}))
    refused(folder, "tie_word_embeddings is true")


def test_weights_that_are_not_numbers_are_refused(folder):
    edit_weights(folder, lambda weights: weights["model.norm.weight"].fill_(float("nan")))
    refused(folder, "model.norm.weight holds values that are not numbers")


# -- files ----------------------------------------------------------------------------------


def test_a_pointer_or_a_short_file_is_told_apart_from_weights(folder):
    whole = (folder / WEIGHTS).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n"
    for content, word in (
        (pointer, "git-lfs pointer"),
        (whole[:-100], "cut short"),
        (whole[:1000], "cut short"),
        (whole + b"00", "too long"),
        (b"", "cut short"),
        (b"\x02\0\0\0\0\0\0\0[]", "header"),
    ):
        (folder / WEIGHTS).write_bytes(content)
        refused(folder, WEIGHTS, word)


def test_shards_that_an_index_names_must_be_there(folder):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    shards = {name: f"model-0000{number % 2 + 1}-of-00002.safetensors" for number, name in enumerate(weights)}
    for shard in set(shards.values()):
        part = {name: tensor for name, tensor in weights.items() if shards[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    load_learner(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors", "missing")
    index.write_text("{}")
    refused(folder, "weight_map is missing")


def test_weights_in_another_form_are_refused_with_the_conversion(folder):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    refused(folder, "not safetensors (pytorch_model.bin)", "save_pretrained")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "no weights here")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": None}, ["model_type is missing"]),
        ({"model_type": "foo"}, ["no architecture 'foo'"]),
        ({"model_type": "foo", "auto_map": {"AutoConfig": "c.Foo"}}, ["code that comes with a model"]),
        ({"model_type": "t5"}, ["t5 is not a causal language model"]),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, ["a quantised model (gptq)"]),
        ({"hidden_size": "many"}, ["config"]),
        ({"hidden_size": 65}, ["65"]),
        ({"max_position_embeddings": None}, ["cannot read the configuration"]),
        ({"max_position_embeddings": 0}, ["max_position_embeddings"]),
        ({"max_position_embeddings": -5}, ["max_position_embeddings"]),
    ],
)
def test_a_configuration_that_cannot_be_used(folder, changes, words):
    edit_json(folder / "config.json", **changes)
    refused(folder, "config", *words)


def test_a_context_without_a_bound_is_4096_tokens():
    assert chosen_context(BloomConfig(), None) == 4096
    assert chosen_context(BloomConfig(), 9000) == 9000


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"", b"[" * 100_000])
def test_a_configuration_that_is_no_json(folder, content):
    (folder / "config.json").write_bytes(content)
    refused(folder, "config.json")


def test_what_is_no_model_directory(folder, tmp_path):
    refused("", "no model is named")
    refused("./missing", "no such directory")
    refused(folder / WEIGHTS, "this is a file")
    refused(tmp_path, "config.json is missing")
    refused("no/such/hub/id", "neither a directory here nor a Hub id")


def test_a_directory_without_a_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    refused(folder, "no tokenizer here")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    refused(folder, "no tokenizer here")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "cannot load the tokenizer")
    (folder / "tokenizer_config.json").write_text("{")
    refused(folder, "tokenizer_config.json")


def test_settings_that_cannot_be_saved_are_told_at_the_start(folder, monkeypatch):
    from transformers import GenerationConfig

    def strict(self, *_args, **_kwargs):
        self.validate(strict=True)

    # Newer versions of transformers write again whatever they have read; older ones do not.
    monkeypatch.setattr(GenerationConfig, "save_pretrained", strict)
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.5}))
    refused(folder, "generation_config.json", "temperature", "could not be saved")


def test_room_for_the_models_is_asked_for(tmp_path, monkeypatch):
    assert needed_bytes(100, 10, agents=3) == 400 + 60 + room.SPARE
    check_room(tmp_path / "not" / "yet", 1)
    with pytest.raises(MissingRequirement, match="GB needed"):
        check_room(tmp_path / "not" / "yet", 10**18)


# -- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float16"}, ["model.dtype", "float32 or bfloat16"]),
        ({"device": "gpu"}, ["unknown device 'gpu'"]),
        ({"device": "meta"}, ["'meta' is not supported"]),
        ({"device": "cuda:99"}, ["no device 'cuda:99'"]),
        ({"max_context": 513}, ["the model's 512"]),
        ({"max_context": -1}, ["model.max_context"]),
    ],
)
def test_values_out_of_range(tiny_path, options, words):
    with pytest.raises(InputError) as caught:
        load_learner(tiny_path, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"rank": 0}, ["model.lora.rank"]),
        ({"rank": 2.5}, ["model.lora.rank"]),
        ({"rank": 10_000}, ["more than any weight matrix here has (64)"]),
        ({"alpha": 0}, ["model.lora.alpha"]),
        ({"alpha": float("nan")}, ["model.lora.alpha"]),
        ({"dropout": 1.0}, ["model.lora.dropout"]),
        ({"target_modules": []}, ["no module is named"]),
        ({"target_modules": ["q_proj", "query"]}, ["'query' is no module", "q_proj, up_proj, v_proj"]),
        ({"target_modules": ["proj"]}, ["'proj' is no module"]),
        ({"target_modules": ["self_attn"]}, ["model.lora.target_modules", "not a linear layer"]),
        ({"target_modules": ["input_layernorm"]}, ["model.lora.target_modules", "not a linear layer"]),
        ({"modules_to_save": ["lm_head"]}, ["unknown setting 'modules_to_save'"]),
    ],
)
def test_adapters_that_cannot_be(tiny_path, lora, words):
    refused(tiny_path, *words, lora={"rank": 4, **lora})


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_adapters_on_tied_weights_are_refused(tmp_path, target):
    folder = save_tiny(tmp_path, tie_word_embeddings=True)
    refused(folder, target, "tied", lora={"rank": 4, "target_modules": ["q_proj", target]})


# -- adapters of others ---------------------------------------------------------------------


def save_adapter(base: Path, folder: Path, **settings: object) -> torch.Tensor:
    """Random LoRA weights for `base`; returns logits of the two together."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    targets = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM", **settings}
    adapted = get_peft_model(model, LoraConfig(**targets)).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0), std=0.1)
        logits = adapted(input_ids=torch.tensor([[*range(5, 25)]])).logits
    adapted.save_pretrained(folder)
    return logits


@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True}, {"target_modules": ["embed_tokens", "lm_head"]}]
)
def test_an_adapter_is_loaded_merged_into_its_base(tiny_path, tmp_path, settings):
    expected = save_adapter(tiny_path, tmp_path / "adapter", **settings)
    policy = load_learner(tmp_path / "adapter", dtype="float32")
    with torch.no_grad():
        found = policy.model(input_ids=torch.tensor([[*range(5, 25)]])).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    policy.save(tmp_path / "whole")
    assert not (tmp_path / "whole" / "adapter_config.json").exists()
    load_learner(tmp_path / "whole")


def test_adapters_that_do_not_fit(tiny_path, folder, tmp_path):
    adapter = tmp_path / "adapter"
    save_adapter(tiny_path, adapter)
    settings = adapter / "adapter_config.json"
    whole = settings.read_text()
    for base, word in ((None, "does not name its base"), ("./gone", "'./gone' cannot be used")):
        edit_json(settings, base_model_name_or_path=base)
        refused(adapter, "base_model_name_or_path", word)
    settings.write_text(whole)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), adapter / "adapter_model.safetensors")
    refused(adapter, "does not fit its base")
    (adapter / "adapter_model.safetensors").unlink()
    refused(adapter, "adapter_model.safetensors", "missing")
    edit_json(settings, base_model_name_or_path=str(adapter))
    refused(adapter, "has an adapter itself")
    shutil.copy(settings, folder)
    refused(folder, "both a model and an adapter")


def test_a_full_disk_is_told_when_a_model_is_saved(tiny_path, tmp_path, monkeypatch):
    learner = load_learner(tiny_path)

    def full(*_args, **_kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(learner.model, "save_pretrained", full)
    with pytest.raises(MissingRequirement, match="out"):
        learner.save(tmp_path / "out")
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(InputError, match="file"):
        learner.save(tmp_path / "file" / "out")
