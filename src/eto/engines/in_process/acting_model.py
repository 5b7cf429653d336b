"""The model as it acts: a learner's weights as they are now, or those of a directory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from eto.models.dtype import weights_as, weights_in
from eto.models.frozen import merged
from eto.models.loading import Source, check_kind, find_model, load_model


def acting_copy(model: Any, dtype: torch.dtype) -> Any:
    """`model` in `dtype`, adapters merged; in its own type it shares the weights."""
    if hasattr(model, "peft_config"):
        return merged(model, dtype)
    return copy.deepcopy(model, weights_as(model.parameters(), dtype))


def acting_model(directory: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The model in `directory`. Raises `InputError` where it is not a complete causal LM."""
    source: Source = find_model(directory)
    check_kind(source.model)
    return weights_in(load_model(source, device), dtype)
