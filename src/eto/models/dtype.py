"""Types and devices: fp32 master weights, and copies of them in the type of the computation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter

from eto.errors import InputError
from eto.models.private_interfaces import cpu_has_bfloat16

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def weights_in(model: Any, dtype: torch.dtype) -> Any:
    """`model` with its weights cast in place; buffers keep their type.

    `model.to(dtype)` would also round the frequencies of rotary embeddings, and some hundred
    tokens on such a model attends to other positions than the one that was trained.
    """
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    return model


def weights_as(weights: Iterable[Parameter], dtype: torch.dtype) -> dict[int, Parameter]:
    """Memo for `copy.deepcopy` by which a copied model has these weights in `dtype`, and shares those
    that have it already."""
    return {
        id(weight): Parameter(weight.detach().to(dtype), requires_grad=False)
        if weight.is_floating_point()
        else weight
        for weight in weights
    }


def compute_dtype(choice: str, device: torch.device) -> torch.dtype:
    """bfloat16 where it is native (`auto`), or the dtype named. Raises `InputError` for another name."""
    if choice == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bfloat16()
        return torch.bfloat16 if native else torch.float32
    if choice not in DTYPES:
        raise InputError(
            f"unknown type {choice!r}", where="model.dtype", hint=f"use auto, {' or '.join(DTYPES)}"
        )
    return DTYPES[choice]


def device_of(choice: str | None) -> torch.device:
    """The device named, or a GPU where there is one. Raises `InputError` for one that is not here."""
    if choice is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hint = "use cpu, cuda or cuda:NUMBER"
    try:
        device = torch.device(choice)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {choice!r}", where="device", hint=hint) from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {choice!r} is not supported", where="device", hint=hint)
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise InputError(
            f"there is no device {choice!r} here ({count} found)", where="device", hint="use cpu"
        )
    return device
