"""The optimiser: AdamW, which may outlive the training it was made for."""

from __future__ import annotations

from typing import Any

import torch

from eto.errors import InputError
from eto.settings import TrainingSettings


class Optimiser:
    """AdamW over the weights of `model` that are trained.

    Kept over several trainings of one model, it goes on with its averages; the weight decay is that of
    the settings it was made with.
    """

    def __init__(self, model: Any, settings: TrainingSettings) -> None:
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.adamw = torch.optim.AdamW(
            self.trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def step(self, rate: float, max_grad_norm: float) -> float:
        """Update the weights at learning rate `rate`; returns the gradient's norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.trained, max_grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
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
