"""The optimiser: AdamW or a learned one, which may outlive the training it was made for."""

from __future__ import annotations

from typing import Any

import torch

from eto.errors import InputError
from eto.settings import TrainingSettings
from eto.training.learned_optimiser import STATE_BYTES, LearnedOptimiser, load_rule


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
        holds none."""
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        if settings.optimiser == "learned":
            _check_adapters(model)
            rule = load_rule(settings.optimiser_file)
            rule.to(self.trained[0].device)
            self.algorithm = LearnedOptimiser(self.trained, rule, settings.learning_rate)
            self.decisive, self.weight_bytes = ("learned", rule.digest()), STATE_BYTES
        else:
            self.algorithm = torch.optim.AdamW(
                self.trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
            )

    def step(self, rate: float, max_grad_norm: float) -> float:
        """Update the weights at learning rate `rate`; returns the gradient's norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.trained, max_grad_norm)
        for group in self.algorithm.param_groups:
            group["lr"] = rate
        self.algorithm.step()
        return float(norm)

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


def _check_adapters(model: Any) -> None:
    if not hasattr(model, "peft_config"):
        raise InputError(
            f"optimiser: learned keeps {STATE_BYTES} bytes a weight, AdamW 8: it trains adapters only, and "
            "the model has none",
            where="optimiser",
            hint="train adapters (model.lora), or set optimiser to adamw",
        )
