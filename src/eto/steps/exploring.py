"""Exploring: the agent's own episodes."""

from __future__ import annotations

from eto.engines.actor import Choice
from eto.experiment.lab import Lab
from eto.experiment.play import in_task_order
from eto.protocols import Stage
from eto.settings import ExploreSettings
from eto.types import Phase, Trajectory


def explore(
    lab: Lab, settings: ExploreSettings, iteration: int = 1, choice: Choice | None = None
) -> list[Trajectory]:
    """Stage `explore-<iteration>`: the learner's episodes of the training tasks. choice: how it takes one of
    several actions; None: it samples one."""
    phase = Phase.explore(iteration)
    with lab.run.stage(Stage.explore(iteration).name) as stage:
        if stage.done:
            return in_task_order(lab.run.store.get(phase), lab.splits["train"])
        stage.played(phase)
        return lab.play(
            "train",
            phase,
            temperature=settings.temperature,
            samples=settings.samples,
            seed=lab.recipe.seed * 1000 + iteration,
            choice=choice,
        )
