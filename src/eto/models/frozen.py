"""Frozen weights below adapters in fewer bytes: in bfloat16, or in 4 bits (QLoRA, arXiv 2305.14314).

Such a model is merged by reading its weights back in fp32: rounded into the narrow weights, small updates of
the adapters would be lost. For the same reason a learner keeps its frozen weights from stage to stage, and an
agent's adapters lie beside its merged model.
"""

from __future__ import annotations

import copy
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eto.data.files import disk_errors
from eto.errors import InputError, MissingRequirement
from eto.models.architecture import base_of
from eto.models.dtype import weights_in

KINDS = ("float32", "bfloat16", "nf4")
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in 4 bits: a byte for the scale of each 64, whose own scale is fp32 for each 256."""
BESIDE = Path("adapters") / "adapters.safetensors"
"""In a model's directory; in a folder of its own, for servers read all weights beside config.json."""


def check_frozen(kind: str, dtype: torch.dtype) -> None:
    """Raises `InputError` for an unknown kind, or one that does not go with the type of the computation,
    `MissingRequirement` for 4 bits without bitsandbytes."""
    if kind not in KINDS:
        raise _refused(f"{kind!r} is no type of frozen weights", f"use {', '.join(KINDS)}")
    if kind == "bfloat16" and dtype != torch.bfloat16:
        raise _refused(
            "frozen: bfloat16, but the computation is in float32",
            "set model.dtype to bfloat16, or leave frozen out",
        )
    if kind == "nf4":
        check_installed()


def check_installed() -> None:
    """Raises `MissingRequirement` where 4 bits have no bitsandbytes."""
    try:
        found = find_spec("bitsandbytes") is not None
    except ValueError:  # called off in `sys.modules`
        found = False
    if not found:
        raise MissingRequirement(
            "frozen: nf4 needs the package bitsandbytes, which is not installed",
            where="model.lora.frozen",
            hint="pip install eto-agent[eight-bit], or set model.lora.frozen to bfloat16",
        )


def freeze_in(model: Any, kind: str, dtype: torch.dtype, device: torch.device) -> Any:
    """`model`, a `transformers` model, with its weights narrowed in place and on `device`, to get adapters.

    bfloat16: all of them. nf4: those of linear layers but the output layer, with quantised scales; the rest
    in `dtype`, in which they are computed with. Raises what `check_frozen` raises.
    """
    check_frozen(kind, dtype)
    if kind == "float32":
        return model.to(device)
    if kind == "nf4":
        _quantise(model, dtype, device)
        model.is_loaded_in_4bit = True  # PEFT asks for it
    return weights_in(model, dtype).to(device)


def _quantise(model: Any, dtype: torch.dtype, device: torch.device) -> None:
    import bitsandbytes as bnb

    head = model.get_output_embeddings()
    linear = [(name, each) for name, each in model.named_modules() if type(each) is nn.Linear]
    for name, layer in linear:
        if layer is head:
            continue
        with torch.device("meta"):
            small = bnb.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=dtype,
                compress_statistics=True,
                quant_type="nf4",
            )
        small.weight = bnb.nn.Params4bit(
            layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=small
        ).to(device)  # quantised as it is moved
        small.bias = layer.bias
        small.support_avx512bf16_for_cpu = False  # it would lay the weights out anew, in place
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, small)


def is_narrow(model: Any) -> bool:
    """Whether frozen weights of `model` are narrower than fp32."""
    return is_quantised(model) or any(
        weight.dtype == torch.bfloat16 and not weight.requires_grad for weight in model.parameters()
    )


def is_quantised(model: Any) -> bool:
    """Whether `model` has weights in 4 bits."""
    return any(_in_4_bits(weight) for weight in model.parameters())


def numbers(weight: Any) -> int:
    """How many numbers `weight` stands for; two in a byte of 4 bits."""
    return weight.numel() * (2 if _in_4_bits(weight) else 1)


def plain_layers(model: Any, dtype: torch.dtype) -> dict[int, nn.Linear]:
    """Memo for `copy.deepcopy` by which a copied model has layers in `dtype`, without storage, in place of
    quantised ones."""
    return {
        id(layer): nn.Linear(
            layer.in_features, layer.out_features, layer.bias is not None, device="meta", dtype=dtype
        ).requires_grad_(False)
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and _in_4_bits(layer.weight)
    }


def _in_4_bits(weight: Any) -> bool:
    return getattr(weight, "quant_state", None) is not None


@torch.no_grad()
def merged(model: Any, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Any:
    """A copy of `model` without adapters, which are merged, and without quantised weights: in `dtype`, by
    default fp32, on `device`, by default its own. Sums are taken in fp32, layer by layer; weights that have
    the type and no adapter are shared with `model`."""
    from peft.tuners.lora import LoraLayer

    base = base_of(model)
    place = device or base.device
    memo: dict[int, Any] = {}
    inside: set[int] = set()
    for module in base.modules():
        if id(module) in inside:
            continue
        adapted = isinstance(module, LoraLayer)
        if adapted or (is_quantised(module) and isinstance(module, nn.Linear)):
            inside |= {id(each) for each in module.modules()}
            plain = _merged_layer(module) if adapted else _plain_linear(module)
            memo[id(module)] = plain.to(place, dtype)
    for weight in base.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to(place, dtype), requires_grad=False)
    whole = copy.deepcopy(base, memo)
    for name in ("peft_config", "is_loaded_in_4bit"):
        if name in vars(whole):
            delattr(whole, name)
    return whole.to(place)


def _merged_layer(layer: Any) -> nn.Module:
    """The layer below an adapter with the adapter merged, in fp32."""
    own = layer.get_base_layer()
    if is_quantised(own):
        plain = _plain_linear(own)
        for name in layer.active_adapters:
            plain.weight += layer.get_delta_weight(name).float()
        return plain
    wide = copy.deepcopy(layer).float()
    # Adapters of several expert matrices of one module wrap each other.
    for each in reversed([module for module in wide.modules() if isinstance(module, type(layer))]):
        each.merge()
    return wide.get_base_layer()


def _plain_linear(layer: Any) -> nn.Linear:
    """A quantised layer, read back in fp32."""
    from bitsandbytes.functional import dequantize_4bit

    with torch.device("meta"):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    plain.weight = nn.Parameter(weight.clone(), requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
    return plain


# -- an agent's adapters beside its merged model ---------------------------------------


def frozen_mark(model: Any) -> str:
    """A digest of the frozen weights of `model`, the same on any device."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        if not weight.requires_grad and "lora_" not in name:
            total = weight.detach().view(torch.uint8).sum(dtype=torch.int64)
            digest.update(f"{name} {tuple(weight.shape)} {int(total)}\n".encode())
    return digest.hexdigest()[:16]


def write_adapters(model: Any, directory: Path, mark: str) -> None:
    """Put the adapters of `model`, whose frozen weights have `mark`, beside the merged model in `directory`.
    Raises what `disk_errors` raises."""
    path = directory / BESIDE
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: weight.detach().cpu().contiguous() for name, weight in _adapters(model).items()}
        save_file(kept, path, {"frozen": mark})


def read_adapters(model: Any, directory: Path, mark: str) -> bool:
    """Take the adapters beside the model in `directory` into `model`, whose frozen weights have `mark`.
    False, and nothing taken, where there are none for these weights, or they are of another shape."""
    path = directory / BESIDE
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("frozen") != mark:
            return False
    kept, own = load_file(path), _adapters(model)
    if {name: each.shape for name, each in kept.items()} != {name: each.shape for name, each in own.items()}:
        return False
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(kept[name])
    return True


def _adapters(model: Any) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}


def _refused(problem: str, hint: str) -> InputError:
    return InputError(problem, where="model.lora.frozen", hint=hint)
