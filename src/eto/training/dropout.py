"""Whether a model drops anything in training, and how to let it not."""

from __future__ import annotations

from typing import Any

import torch


def has_dropout(model: Any) -> bool:
    """Whether the model, or its adapters, drop anything in training."""
    config = model.config.get_text_config().to_dict()
    rates = [value for name, value in config.items() if _is_rate(name, value) and not _of_a_head(name)]
    rates += [each.p for each in model.modules() if isinstance(each, torch.nn.Dropout)]
    return any(rate > 0 for rate in rates)


def without_dropout(model: torch.nn.Module) -> None:
    """Let nothing in `model` be dropped, while activations are recomputed where they are."""
    model.eval()
    for module in model.modules():
        if not getattr(module, "gradient_checkpointing", False):
            continue
        # transformers recomputes in modules that are in training alone; what they drop by themselves, and
        # not in a module inside, is read from their attributes or from the configuration.
        module.training = True
        for owner in filter(None, (module, getattr(module, "config", None))):
            for name, value in list(vars(owner).items()):
                if _is_rate(name, value):
                    setattr(owner, name, 0.0)


def _is_rate(name: str, value: object) -> bool:
    return "drop" in name and isinstance(value, float)


def _of_a_head(name: str) -> bool:
    return name.startswith(("classifier", "summary"))
