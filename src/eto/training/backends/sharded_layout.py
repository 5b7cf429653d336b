"""A module laid out over the ranks: copied (DDP) or divided (FSDP2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a module is laid out."""

    backend: str
    """ddp or fsdp2."""
    dtype: torch.dtype
    """Of the computation."""
    offload: bool
    device: torch.device


def distributed(loss: Any, sharding: Sharding) -> Any:
    """`loss`, whose `scorer.model` is a `transformers` model, laid out over all ranks."""
    if sharding.backend == "ddp":
        loss.to(sharding.device)
        index = [sharding.device.index] if sharding.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            loss, device_ids=index, find_unused_parameters=_may_be_unused(loss.scorer.model)
        )
    return _divided(loss, sharding)


def _divided(loss: Any, sharding: Sharding) -> Any:
    """FSDP2: each block of the model is gathered when it computes, and its share alone is kept."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    mesh = init_device_mesh(sharding.device.type, (torch.distributed.get_world_size(),))
    precision = MixedPrecisionPolicy(param_dtype=sharding.dtype, reduce_dtype=torch.float32)
    offloads = sharding.offload and sharding.device.type == "cuda"  # a CPU has nowhere else to put them
    policy = CPUOffloadPolicy() if offloads else OffloadPolicy()
    for block in blocks(loss.scorer.model):
        fully_shard(block, mesh=mesh, mp_policy=precision, offload_policy=policy)
    fully_shard(loss, mesh=mesh, mp_policy=precision, offload_policy=policy)
    for name, buffer in loss.named_buffers():
        owner = loss.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], buffer.to(sharding.device))
    return loss


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model that `transformers` says must not be split."""
    names = set()
    for module in model.modules():
        names |= set(getattr(module, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _may_be_unused(model: Any) -> bool:
    """Whether some weights may get no gradient in a pass: a value head's, an expert's."""
    return hasattr(model, "value_head") or any("expert" in name for name, _ in model.named_parameters())
