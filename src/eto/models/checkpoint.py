"""A model directory looked through before its weights are read: what is missing, cut short, or not ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eto.data.files import read_json
from eto.errors import InputError

CONFIG, ADAPTER = "config.json", "adapter_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
POINTER = b"version https://git-lfs"
LONGEST_HEADER = 100_000_000
"""Bytes; the same bound as that of safetensors."""
GIVE = "give `embedded`, a directory written by save_pretrained, or a Hub id"
AGAIN = "download or save the model again"
CONVERT = (
    "write them as safetensors, in Python: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW), "
    "and the tokenizer likewise"
)
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tiktoken.model",
    "spiece.model",
)
VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "tekken.json"})
"""A tokenizer's words are in one of these, or in a `.model` or `.tiktoken` file."""


def check_directory(folder: Path) -> None:
    """Raises `InputError` unless `folder` holds a configuration, a tokenizer and whole safetensors, and
    nothing that would be loaded in their place."""
    if not folder.is_dir():
        what = "this is a file, not a model directory" if folder.exists() else "there is no such directory"
        raise InputError(what, where=str(folder), hint=GIVE)
    if not (folder / CONFIG).is_file():
        raise InputError(f"no model here ({CONFIG} is missing)", where=str(folder), hint=GIVE)
    if (folder / ADAPTER).is_file():
        raise InputError(
            "both a model and an adapter: it is not said which of the two is meant",
            where=str(folder),
            hint="move adapter_config.json and adapter_model.safetensors to a directory of their own; "
            "given as model.path, that one is loaded merged into its base",
        )
    check_config(_object(folder / CONFIG), folder / CONFIG)
    check_tokenizer(folder)
    _check_weights(folder)


def check_config(config: Mapping[str, Any], where: Path | str) -> None:
    """Raises `InputError` for a configuration of no model, of a quantised one, or of code beside it."""
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise InputError("model_type is missing", where=str(where), hint=GIVE)
    for key in ("quantization_config", "compression_config"):
        if config.get(key):
            given = config[key]
            method = given.get("quant_method") if isinstance(given, Mapping) else None
            raise InputError(
                f"a quantised model{f' ({method})' if method else ''}: its weights cannot be trained",
                where=f"{where}: {key}",
                hint="take the model's unquantised checkpoint; adapters can be trained on it with model.lora",
            )


def check_tokenizer(folder: Path) -> None:
    """Raises `InputError` where `folder` has no tokenizer; `transformers` would make an empty one."""
    if not has_vocabulary(folder):
        raise InputError(
            "no tokenizer here (tokenizer.json is missing)",
            where=str(folder),
            hint="copy the tokenizer's files of the model it was trained from into it",
        )
    if (folder / "tokenizer_config.json").exists():
        _object(folder / "tokenizer_config.json")


def has_vocabulary(folder: Path) -> bool:
    """Whether a tokenizer's words are in `folder`."""
    return any(
        path.name in VOCABULARIES or path.suffix in {".model", ".tiktoken"} for path in folder.iterdir()
    )


def check_safetensors(path: Path) -> None:
    """Raises `InputError` for a pointer in place of weights, and for a file that is cut short."""
    if not path.is_file():
        raise InputError("this file of weights is missing", where=str(path), hint=AGAIN)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(POINTER))
        if start == POINTER:
            raise InputError(
                "a git-lfs pointer in place of the weights", where=str(path), hint="run `git lfs pull` there"
            )
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise InputError("not safetensors, or cut short", where=str(path), hint=AGAIN)
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            wanted = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise InputError(
                "not safetensors: its header cannot be read", where=str(path), hint=AGAIN
            ) from error
    if size != wanted:
        problem = (
            f"cut short: {size} bytes of {wanted}" if size < wanted else f"{size - wanted} bytes too long"
        )
        raise InputError(problem, where=str(path), hint=AGAIN)


def adapter_base(folder: Path) -> str:
    """What the adapter in `folder` belongs to: a directory, relative ones also from `folder` on, or a Hub
    id. Raises `InputError` where it does not say."""
    base = _object(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise InputError(
            "an adapter that does not name its base",
            where=f"{folder / ADAPTER}: base_model_name_or_path",
            hint="write the base's directory there, as an absolute path",
        )
    if (folder / base).is_dir():
        return str(folder / base)
    return base


def _check_weights(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        check_safetensors(folder / WEIGHTS)
        return
    if (folder / INDEX).is_file():
        shards = _object(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise InputError("weight_map is missing", where=str(folder / INDEX), hint=AGAIN)
        for name in sorted(set(shards.values())):
            check_safetensors(folder / name)
        return
    others = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".gguf", ".h5"})
    if others:
        raise InputError(
            f"the weights are not safetensors ({', '.join(others[:3])})", where=str(folder), hint=CONVERT
        )
    raise InputError(f"no weights here ({WEIGHTS} is missing)", where=str(folder), hint=AGAIN)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `InputError` for anything else."""
    try:
        value = read_json(path)
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError("this is not JSON", where=str(path), hint=AGAIN) from error
    if not isinstance(value, dict):
        raise InputError("this is not JSON object", where=str(path), hint=AGAIN)
    return value
