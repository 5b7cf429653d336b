"""A model as a folder for other programs: weights in a chosen type, tokenizer, how it generates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from eto.data.files import disk_errors, read_json, write_json
from eto.errors import InputError
from eto.models.checkpoint import ADAPTER, INDEX, WEIGHTS
from eto.models.dtype import weights_in
from eto.models.saving import save_model

ADAPTER_WEIGHTS = "adapter_model.safetensors"
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def stored_dtype(model: str) -> str:
    """The type of a model's weights: of its first tensor, where `model` is a directory, or as its
    configuration says. float32 where neither is one of `TYPES`."""
    folder = Path(model)
    weights = folder / WEIGHTS
    if not weights.is_file() and (folder / INDEX).is_file():
        weights = folder / min(
            json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        )
    if weights.is_file():
        with safe_open(weights, framework="pt") as tensors:
            first = min(tensors.keys())
            return _STORED.get(tensors.get_slice(first).get_dtype(), "float32")
    named = str(AutoConfig.from_pretrained(model, trust_remote_code=False).dtype).removeprefix("torch.")
    return named if named in TYPES else "float32"


def write_model(
    model: Any, tokenizer: Any, directory: Path, dtype: str, stops: Sequence[int], max_action_tokens: int
) -> None:
    """Write `model` with weights in `dtype`, which changes it in place, and its tokenizer.

    Its generation configuration ends an action at `stops` and is greedy, as evaluation is by default;
    `max_action_tokens`: longest action. Raises `InputError` where weights are too large for `dtype`, and as
    `save_model`.
    """
    weights_in(model, TYPES[dtype])
    for name, weight in model.named_parameters():
        _check_finite(name, weight, dtype)
    model.config.dtype = TYPES[dtype]
    how = model.generation_config
    how.eos_token_id = sorted(stops)
    if how.pad_token_id is None:
        how.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops)
    how.do_sample, how.max_new_tokens = False, max_action_tokens
    for name in ("temperature", "top_p", "top_k", "min_p", "typical_p"):
        setattr(how, name, None)
    save_model(model, tokenizer, directory)


def write_adapter(source: Path, base: str, tokenizer: Any, directory: Path, dtype: str) -> None:
    """Write the LoRA adapter in `source`, in `dtype`, as one of `base`, with the tokenizer. Raises as
    `write_model`."""
    config = {**read_json(source / ADAPTER), "base_model_name_or_path": base}
    tensors = {name: each.to(TYPES[dtype]) for name, each in load_file(source / ADAPTER_WEIGHTS).items()}
    for name, each in tensors.items():
        _check_finite(name, each, dtype)
    with disk_errors(directory):
        write_json(directory / ADAPTER, config)
        save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        tokenizer.save_pretrained(directory)


def _check_finite(name: str, weight: torch.Tensor, dtype: str) -> None:
    if dtype != "float32" and not torch.isfinite(weight).all():
        hint = "use --dtype bfloat16 or float32"
        raise InputError(f"{name} is too large for {dtype}", where="--dtype", hint=hint)


def convert_script(given: Path | None = None) -> Path | None:
    """llama.cpp's `convert_hf_to_gguf.py`: as given, or from PATH; None where it is not installed."""
    if given is not None:
        return given if given.is_file() else None
    found = shutil.which("convert_hf_to_gguf.py")
    return Path(found) if found else None
