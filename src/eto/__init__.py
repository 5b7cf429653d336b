"""ETO: train language-model agents by trial and error (arXiv 2403.02502).

The ten names below suffice for the whole loop; README.md shows it in twenty lines.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eto.runtime import configure_threads

__version__ = "0.1.0"

# Before torch is loaded: spinning OpenMP threads slow decoding many times beside a busy simulator.
configure_threads()

# At once, not on first use: the submodule of that name would take its place.
from eto.contrast import contrast  # noqa: E402

if TYPE_CHECKING:
    from eto.algorithms.dpo import DpoSettings, dpo
    from eto.algorithms.sft import SftSettings, sft
    from eto.environments import load_suite
    from eto.environments.pool import collect_experts
    from eto.policies.transformers import load_policy
    from eto.rollout.rollouts import rollouts
    from eto.statistics import summarise

_HOMES = {
    "load_suite": "eto.environments",
    "collect_experts": "eto.environments.pool",
    "load_policy": "eto.policies.transformers",
    "rollouts": "eto.rollout.rollouts",
    "sft": "eto.algorithms.sft",
    "SftSettings": "eto.algorithms.sft",
    "dpo": "eto.algorithms.dpo",
    "DpoSettings": "eto.algorithms.dpo",
    "summarise": "eto.statistics",
}

__all__ = [
    "DpoSettings",
    "SftSettings",
    "collect_experts",
    "contrast",
    "dpo",
    "load_policy",
    "load_suite",
    "rollouts",
    "sft",
    "summarise",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import eto` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'eto' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
