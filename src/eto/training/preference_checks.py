"""Which settings of preference training have an effect given its data and its model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from eto.errors import InputError
from eto.settings import DpoSettings
from eto.training.dropout import has_dropout
from eto.types import Trajectory


def check_effect(settings: DpoSettings, model: Any, rehearsal: Sequence[Trajectory] | None) -> None:
    """Raises `InputError` for a setting without effect in training `model`, with `rehearsal`."""
    if rehearsal and not settings.rehearsal_weight:
        raise InputError(
            "trajectories to rehearse are given, but rehearsal_weight is 0",
            where="dpo: rehearsal",
            hint="set DpoSettings(rehearsal_weight=...) above 0, or give none",
        )
    if rehearsal is None and settings.rehearsal_weight:
        raise InputError(
            f"rehearsal_weight is {settings.rehearsal_weight:g}, but no trajectories to rehearse are given",
            where="dpo: rehearsal",
            hint="give rehearsal=..., for example the expert's trajectories, or set rehearsal_weight to 0",
        )
    if settings.dropout and not has_dropout(model):
        raise InputError(
            "dropout is asked for, but neither model nor adapters have any",
            where="method.dpo.dropout",
            hint="set it to false, or model.lora.dropout above 0",
        )
    if settings.dropout:
        warnings.warn(
            "method.dpo.dropout is on: margins and drifts differ from 0 before the first step, for the "
            "reference is scored without dropout",
            stacklevel=3,
        )
