"""Separating: training on what is desirable and what is not, without pairs."""

from __future__ import annotations

from collections.abc import Sequence

from eto.experiment.lab import Lab
from eto.protocols import Agent
from eto.settings.training import KtoSettings
from eto.steps.cloning import drop_state, save_model
from eto.training.unpaired import unpaired
from eto.types import Trajectory


def separate(
    lab: Lab,
    desirable: Sequence[Trajectory],
    undesirable: Sequence[Trajectory],
    settings: KtoSettings,
    *,
    agent: str,
) -> Agent:
    """Stage `<agent>`: the learner becomes `agent`, more likely to act as in `desirable` and less as in
    `undesirable` trajectories; as it comes in, it is the reference."""
    with lab.run.stage(agent) as stage:
        made = lab.agent(agent, stage=stage.name)
        if not stage.done:
            fit = unpaired(
                lab.learner, desirable, undesirable, settings, directory=stage.directory, **lab.training
            )
            lab.train(stage.name, fit)
            save_model(lab.learner, stage.directory)
            stage.note(desirable=len(desirable), undesirable=len(undesirable), tokens=fit.tokens)
            stage.makes(agent)
        lab.become(made)
    drop_state(stage.directory)
    return made
