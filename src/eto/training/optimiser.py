"""The optimiser: AdamW, in 8 bits too, or a learned one, which may outlive the training it was made for."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch

from eto.errors import EngineFailure, InputError, MissingRequirement
from eto.settings import TrainingSettings
from eto.training.learned_optimiser import STATE_BYTES, LearnedOptimiser, load_rule

EIGHT_BIT_BYTES = 2
"""Of 8-bit AdamW's two averages of one weight, without the scale of each block."""


class Optimiser:
    """AdamW, or the learned optimiser, over the weights of `model` that are trained.

    Kept over several trainings of one model, it goes on with its averages or hidden states; which of the two
    it is, and the weight decay, is as in the settings it was made with.
    """

    algorithm: torch.optim.Optimizer
    decisive: tuple[object, ...] = ()
    """What decides the result besides the settings."""
    weight_bytes: int = 8
    """Of its state, for each weight that is trained; AdamW's two averages."""

    def __init__(self, model: Any, settings: TrainingSettings) -> None:
        """Raises `InputError` where the learned optimiser is to train more than adapters, and for a file that
        holds none, `MissingRequirement` for 8 bits without bitsandbytes."""
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        if settings.optimiser == "learned":
            check_adapters(model)
            rule = load_rule(settings.optimiser_file)
            rule.to(self.trained[0].device)
            self.algorithm = LearnedOptimiser(self.trained, rule, settings.learning_rate)
            self.decisive, self.weight_bytes = ("learned", rule.digest()), STATE_BYTES
        elif settings.optimiser == "adamw8bit":
            self.algorithm = _adamw8bit(self.trained, settings)
            self.decisive, self.weight_bytes = ("adamw8bit",), EIGHT_BIT_BYTES
        else:
            self.algorithm = torch.optim.AdamW(
                self.trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
            )

    def step(self, rate: float, max_grad_norm: float) -> float:
        """Update the weights at learning rate `rate`; returns the gradient's norm before clipping. Raises
        `EngineFailure`, and leaves the weights as they are, if that is not a number: a finite loss may have
        such a gradient, and after the last step no other loss would tell."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, max_grad_norm))
        if not math.isfinite(norm):
            raise EngineFailure(
                "the gradient is not a number", hint="lower the learning rate, or use float32"
            )
        for group in self.algorithm.param_groups:
            group["lr"] = rate
        self.algorithm.step()
        return norm

    def check_trains(self, model: Any) -> None:
        """Raises `InputError` where it is not the optimiser of this model's weights."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        same = len(weights) == len(self.trained)
        if not same or any(one is not other for one, other in zip(weights, self.trained, strict=True)):
            raise InputError(
                "the optimiser was made for other weights than the model's",
                where="fit: optimiser",
                hint="make one for the model as it is now; loading weights replaces the model",
            )


def state_bytes(settings: TrainingSettings) -> int:
    """What the optimiser keeps of each weight that is trained."""
    special = {"learned": STATE_BYTES, "adamw8bit": EIGHT_BIT_BYTES}
    return special.get(settings.optimiser, Optimiser.weight_bytes)


def check_installed(settings: TrainingSettings) -> None:
    """Raises `MissingRequirement` where the optimiser needs a package that is not installed."""
    if settings.optimiser == "adamw8bit" and not _importable("bitsandbytes"):
        raise MissingRequirement(
            "optimiser: adamw8bit needs the package bitsandbytes, which is not installed",
            where="optimiser",
            hint="pip install eto-agent[eight-bit], or set optimiser to adamw",
        )


def _importable(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # called off in `sys.modules`
        return False


def _adamw8bit(trained: list[Any], settings: TrainingSettings) -> torch.optim.Optimizer:
    check_installed(settings)
    import bitsandbytes

    rate, decay = settings.learning_rate, settings.weight_decay
    return bitsandbytes.optim.AdamW8bit(trained, rate, weight_decay=decay)


def check_adapters(model: Any) -> None:
    """Raises `InputError` for a model without adapters, which the learned optimiser does not train."""
    if not hasattr(model, "peft_config"):
        raise InputError(
            f"optimiser: learned keeps {STATE_BYTES} bytes a weight, AdamW 8: it trains adapters only, and "
            "the model has none",
            where="optimiser",
            hint="train adapters (model.lora), or set optimiser to adamw",
        )
