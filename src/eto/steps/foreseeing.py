"""Foreseeing: an agent that learns what the environment answers to its own actions."""

from __future__ import annotations

from collections.abc import Sequence

from eto.experiment.lab import Lab
from eto.protocols import Agent
from eto.settings import SftSettings
from eto.steps.cloning import drop_state, save_model
from eto.training.foresight import foresight
from eto.types import Trajectory


def foresee(lab: Lab, trajectories: Sequence[Trajectory], settings: SftSettings, *, agent: str) -> Agent:
    """Stage `<agent>`: from the recipe's model, learn the last observation of each of `trajectories`."""
    with lab.run.stage(agent) as stage:
        made = lab.agent(agent, stage=stage.name)
        if not stage.done:
            lab.begin_again()
            fit = foresight(lab.learner, trajectories, settings, directory=stage.directory, **lab.training)
            lab.train(stage.name, fit)
            save_model(lab.learner, stage.directory)
            stage.note(trajectories=len(trajectories), tokens=fit.tokens)
            stage.makes(agent)
        lab.become(made)
    drop_state(stage.directory)
    return made
