"""LoRA adapters: fresh ones for a training stage, and foreign ones, merged into their base."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eto.errors import InputError
from eto.models.checkpoint import ADAPTER, CONVERT, check_safetensors
from eto.models.frozen import freeze_in

ALL_LINEAR = "all-linear"
FIELDS = frozenset({"rank", "alpha", "dropout", "target_modules", "frozen"})


def add_lora(
    model: Any,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    target_modules: Sequence[str] | str | None = None,
) -> Any:
    """`model` frozen, with fresh LoRA adapters (on every linear layer unless named), always the same.

    Raises `InputError` for numbers out of range, names that no module has, and modules whose adapter
    could not be merged into the weights without changing what the model computes.
    """
    from peft import LoraConfig, get_peft_model

    _check_numbers(rank, alpha, dropout)
    if isinstance(target_modules, str):
        target_modules = None if target_modules == ALL_LINEAR else [target_modules]
    targets = list(target_modules) if target_modules is not None else None
    if targets is not None:
        _check_targets(model, targets)
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a float is as good
        lora_dropout=dropout,
        target_modules=ALL_LINEAR if targets is None else targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            adapted = get_peft_model(model, settings)
        except ValueError as error:
            raise _refused(" ".join(str(error).split())[:200], "target_modules") from error
    _check_adapted(adapted, rank)
    return adapted


def adapted(
    model: Any,
    lora: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Any:
    """`add_lora` with the settings of a recipe or of Python, on `device`, by default the model's, computed
    with in `dtype`. Raises `InputError` for an unknown name, and what `freeze_in` raises."""
    unknown = sorted(set(lora) - FIELDS)
    if unknown:
        raise _refused(f"unknown setting {unknown[0]!r}", unknown[0], f"use {', '.join(sorted(FIELDS))}")
    model = freeze_in(model, frozen_of(lora), dtype, device or model.device)
    return add_lora(model, **{name: value for name, value in lora.items() if name != "frozen"})


def frozen_of(lora: Mapping[str, Any] | None) -> str:
    """The type of the frozen weights that these settings ask for."""
    return str((lora or {}).get("frozen", "float32"))


def merged_adapter(model: Any, folder: Path) -> Any:
    """`model` with the LoRA weights in `folder` merged into its own.

    Raises `InputError` for adapters of another kind, or that do not fit the model tensor by tensor.
    """
    from peft import PeftConfig, PeftType, get_peft_model

    where = str(folder)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() and (folder / "adapter_model.bin").is_file():
        raise InputError("the adapter's weights are not safetensors", where=where, hint=CONVERT)
    check_safetensors(weights)
    merge = "merge it into its base with peft (merge_and_unload), and give the merged model"
    try:
        config = PeftConfig.from_pretrained(where)
        if config.peft_type != PeftType.LORA:
            raise InputError(f"an adapter of kind {config.peft_type}, not LoRA", where=where, hint=merge)
        adapted = get_peft_model(model, config)
        report = adapted.load_adapter(where, "default")
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        problem = f"the adapter does not fit its base: {' '.join(str(error).split())[:200]}"
        raise InputError(problem, where=where, hint=merge) from error
    wrong = sorted({*report.missing_keys, *report.unexpected_keys})
    if wrong:
        problem = f"the adapter does not fit its base: {', '.join(wrong[:3])} ({len(wrong)} tensors)"
        raise InputError(problem, where=f"{where}/{ADAPTER}", hint=merge)
    _check_tied(adapted)
    return adapted.merge_and_unload()


def trained_bytes(model: Any) -> int:
    """Bytes of the weights that training changes, in their own type."""
    return sum(
        weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad
    )


def _check_numbers(rank: Any, alpha: Any, dropout: Any) -> None:
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise _refused(f"{rank!r} is not a rank", "rank", "give a whole number from 1 on")
    for name, value, low, high in (("alpha", alpha, 0.0, math.inf), ("dropout", dropout, -1e-9, 1.0)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low < value < high:
            bounds = "above 0" if name == "alpha" else "from 0 to below 1"
            raise _refused(f"{value!r} is out of range", name, f"give a number {bounds}")


def _check_targets(model: Any, targets: Iterable[str]) -> None:
    """Each name is that of a module, or its end after a dot, as PEFT matches them."""
    targets = list(targets)
    modules = dict(model.named_modules())
    if not targets:
        raise _refused("no module is named", "target_modules", "leave it out for every linear layer")
    for target in targets:
        hits = [m for name, m in modules.items() if name == target or name.endswith(f".{target}")]
        if not hits or not all(map(_adaptable, hits)):
            known = sorted({name.rpartition(".")[2] for name, m in modules.items() if _adaptable(m)})
            what = f"a {type(hits[0]).__name__}, not a linear layer" if hits else "no module of this model"
            raise _refused(
                f"{target!r} is {what}",
                "target_modules",
                f"leave it out for every linear layer, or name some of {', '.join(known)}",
            )


def _adaptable(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Embedding) or type(module).__name__ == "Conv1D"


def _check_adapted(model: Any, rank: int) -> None:
    _check_tied(model)
    largest = max(min(layer.in_features, layer.out_features) for _, layer in _layers(model))
    if rank > largest:
        raise _refused(
            f"rank {rank} is more than any weight matrix here has ({largest})",
            "rank",
            "give a smaller rank, or train all weights (model.lora: null)",
        )


def _check_tied(model: Any) -> None:
    """Adapters on one of two modules that share their weights would, once merged, change both."""
    base = model.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if head is None or head.weight is not embeddings.weight:
        return
    tied = {id(head): "output layer", id(embeddings): "input embeddings"}
    for name, layer in _layers(model):
        if id(layer) in tied:
            raise _refused(
                f"{name.removeprefix('base_model.model.')} shares its weights with another module (the "
                f"{tied[id(layer)]}, tied): merged, its adapter would change both",
                "target_modules",
                "leave it out, or train all weights (model.lora: null)",
            )


def _layers(model: Any) -> list[tuple[str, Any]]:
    """The modules that have an adapter, by name."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def _refused(problem: str, field: str, hint: str = "leave it out for every linear layer") -> InputError:
    return InputError(problem, where=f"model.lora.{field}", hint=hint)
