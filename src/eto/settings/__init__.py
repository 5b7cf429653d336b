"""Every setting, declared once: one class a concern, used by recipes, Python and commands alike.

- `acting`: exploring, evaluating, rollouts, environment, tasks
- `base`: strict, frozen, self-validating; marks beside fields
- `contrast`: which pairs are made, which turns carry the contrast
- `critic`: an offline critic and the update by it
- `discriminator`: a discriminator that judges steps
- `distributed`: training in several processes
- `engines`: servers that act
- `ensemble`: estimates that explore by where they differ
- `limits`: bounds of settings, for recipes and for Python
- `model`: the model and its adapters
- `monte_carlo`: values of states
- `policy_gradient`: an update by PPO
- `retrieval`: a memory of trajectories, and what is retrieved from it
- `similarity`: nearness to preferred trajectories
- `tracking`: experiment trackers
- `training`: cloning, preference training, guard
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
from eto.settings.distributed import DistributedSettings
from eto.settings.engines import ChatSettings, RaySettings, ServerSettings, VllmSettings
from eto.settings.model import LoraSettings, ModelSettings
from eto.settings.monte_carlo import MonteCarloSettings
from eto.settings.tracking import TrackingSettings
from eto.settings.training import DpoSettings, GuardSettings, SftSettings, TrainingSettings

__all__ = [
    "ChatSettings",
    "ContrastSettings",
    "DistributedSettings",
    "DpoSettings",
    "EnvironmentLimits",
    "EnvironmentSettings",
    "EvaluationSettings",
    "ExploreSettings",
    "GuardSettings",
    "LoraSettings",
    "MethodSettings",
    "ModelSettings",
    "MonteCarloSettings",
    "RaySettings",
    "RolloutSettings",
    "ServerSettings",
    "Settings",
    "SftSettings",
    "TaskSettings",
    "TrackingSettings",
    "TrainingSettings",
    "VllmSettings",
]
