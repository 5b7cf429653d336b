"""Every setting, declared once: one class a concern, used by recipes, Python and commands alike.

base           what all have in common: strict, frozen, self-validating; marks beside fields
training       cloning and preference training, and the guard over it
acting         exploring, evaluating, rollouts, the environment and its limits, tasks
contrast       which pairs are made, and which of their turns carry the contrast
model          the model and its adapters
"""

from eto.settings.acting import (
    EnvironmentLimits,
    EnvironmentSettings,
    EvaluationSettings,
    ExploreSettings,
    RolloutSettings,
    TaskSettings,
)
from eto.settings.base import MethodSettings, Settings
from eto.settings.contrast import ContrastSettings
from eto.settings.model import LoraSettings, ModelSettings
from eto.settings.training import DpoSettings, GuardSettings, SftSettings, TrainingSettings

__all__ = [
    "ContrastSettings",
    "DpoSettings",
    "EnvironmentLimits",
    "EnvironmentSettings",
    "EvaluationSettings",
    "ExploreSettings",
    "GuardSettings",
    "LoraSettings",
    "MethodSettings",
    "ModelSettings",
    "RolloutSettings",
    "Settings",
    "SftSettings",
    "TaskSettings",
    "TrainingSettings",
]
