"""Every private name of torch and transformers that is used here, in one place.

Newer versions may drop or change them: `tests/models/test_private_interfaces.py` checks each
against what is asked of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def softmax_backward(given: Tensor, weights: Tensor) -> Tensor:
    """Gradient through `softmax(-1)`: weights * (given - sum(given * weights)), in one pass over memory."""
    return torch._softmax_backward_data(given, weights, -1, weights.dtype)


def packed_weight(weight: Tensor, rows: int) -> Tensor:
    """`weight` `[out, in]` laid out for `packed_linear` with about `rows` rows; fp32 or bfloat16 on a CPU."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def packed_linear(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """`inputs` `[.., in]` @ weight' + bias with a weight of `packed_weight`."""
    return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def storage_id(tensor: Tensor) -> int:
    """The same for tensors that share their storage, also for those without one (`meta`), which have no
    address."""
    return tensor.untyped_storage()._cdata


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16: AVX512-BF16 or AMX. False where torch cannot say."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def cpu_has_avx512() -> bool:
    """Whether this CPU has AVX-512. False where torch cannot say."""
    return bool(getattr(torch.cpu, "_is_avx512_supported", bool)())


def is_recurrent(model: Any) -> bool:
    """Whether a `transformers` model keeps a state beside keys and values."""
    return model._is_stateful


def attention_can_be_exchanged(model: Any) -> bool:
    """Whether a `transformers` model takes attention by name (`AttentionInterface`)."""
    return model._supports_attention_backend


def forget_passes(module: Any) -> None:
    """Drop what FSDP2 noted of forward passes of `module` that no backward pass followed: the next backward
    pass would take them for its own, and gradients of what lies outside the blocks would be wrong.

    Nothing is dropped of modules that are not divided.
    """
    from torch.distributed.fsdp import FSDPModule

    for each in module.modules():
        if not isinstance(each, FSDPModule):
            continue
        each.reshard()
        state = each._get_fsdp_state()
        state._comm_ctx.post_forward_order.clear()
        groups = getattr(state, "_fsdp_param_groups", None)
        for group in [state._fsdp_param_group] if groups is None else groups:  # one in older versions
            if group is not None:
                group._post_forward_indices.clear()
