"""Exploring: the agent's own episodes."""

from __future__ import annotations

from eto.experiment.lab import Lab
from eto.settings import ExploreSettings
from eto.types import Trajectory


def explore(lab: Lab, settings: ExploreSettings, iteration: int = 1) -> list[Trajectory]:
    """Stage `explore-<iteration>`: the learner's episodes of the training tasks."""
    phase = f"explore/{iteration}"
    with lab.run.stage(f"explore-{iteration}") as stage:
        if stage.done:
            return lab.run.store.get(phase)
        stage.played(phase)
        return lab.play(
            "train",
            phase,
            temperature=settings.temperature,
            samples=settings.samples,
            seed=lab.recipe.seed * 1000 + iteration,
        )
