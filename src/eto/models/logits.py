"""From hidden states to logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """Logits `[..., vocabulary]` of hidden states `[..., size]`, with the scalings that some architectures
    put around the head."""
    config = model.config.get_text_config()
    logits = model.get_output_embeddings()(hidden)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / scaling
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits
