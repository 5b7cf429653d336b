"""Settings of preference training, and which of them go together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eto.errors import InputError
from eto.limits import (
    Count,
    NotNegative,
    Positive,
    PreferenceLoss,
    Schedule,
    Seed,
    Share,
    Smoothing,
    check,
)
from eto.training.computing import has_dropout
from eto.types import Trajectory


@dataclass(frozen=True, slots=True)
class DpoSettings:
    """Defaults are the paper's for a 7B model. Raises `InputError` for a value out of range, or without
    effect."""

    epochs: Count = 3
    learning_rate: Positive = 1e-6
    beta: Positive = 0.1
    batch_pairs: Count = 32
    """Pairs, and replayed trajectories, of an optimiser step."""
    loss: PreferenceLoss = "sigmoid"
    label_smoothing: Smoothing = 0.0
    """With `loss="sigmoid"` only."""
    sft_weight: NotNegative = 0.0
    """Weight of the chosen side's mean negative log-likelihood."""
    replay_weight: NotNegative = 0.0
    """Weight of the mean negative log-likelihood of each replayed trajectory."""
    dropout: bool = False
    """Keep the dropout of model and adapters. The reference is scored without any, so that margins and
    drifts then differ from 0 before the first step."""
    schedule: Schedule = "constant_with_warmup"
    warmup_ratio: Share | None = None
    """None: 0.1, and 0 with `schedule="constant"`, which has no warm-up."""
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    micro_batch_tokens: Count = 1024
    activation_checkpointing: bool | None = None
    """None: where memory asks for it."""
    checkpoint_seconds: float = 120.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check(self)

    @property
    def objective(self) -> tuple[object, ...]:
        """Values that decide the loss."""
        return self.loss, self.beta, self.label_smoothing, self.sft_weight, self.replay_weight


def check_effect(settings: DpoSettings, model: Any, replay: Sequence[Trajectory] | None) -> None:
    """Raises `InputError` for a setting that training `model`, with `replay`, would leave without effect."""
    if replay and not settings.replay_weight:
        raise InputError(
            "trajectories to replay are given, but replay_weight is 0",
            where="dpo: replay",
            mend="set DpoSettings(replay_weight=...) above 0, or give none",
        )
    if replay is None and settings.replay_weight:
        raise InputError(
            f"replay_weight is {settings.replay_weight:g}, but no trajectories to replay are given",
            where="dpo: replay",
            mend="give replay=..., for example the expert's trajectories, or set replay_weight to 0",
        )
    if settings.dropout and not has_dropout(model):
        raise InputError(
            "dropout is asked for, but neither model nor adapters have any",
            where="method.dpo.dropout",
            mend="set it to false, or model.lora.dropout above 0",
        )
    if settings.dropout:
        warnings.warn(
            "method.dpo.dropout is on: margins and drifts differ from 0 before the first step, for the "
            "reference is scored without dropout",
            stacklevel=3,
        )
