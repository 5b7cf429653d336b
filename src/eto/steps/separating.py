"""Separating: training on what is desirable and what is not, without pairs."""

from __future__ import annotations

from collections.abc import Sequence

from eto.experiment.lab import Lab
from eto.protocols import Agent, Stage
from eto.settings import GuardSettings
from eto.settings.training import KtoSettings
from eto.steps.cloning import drop_state
from eto.steps.preferring import Round, keep_round, kept_round, train_checked
from eto.steps.selecting import Checks
from eto.training.unpaired import unpaired
from eto.types import Trajectory


def separate(
    lab: Lab,
    desirable: Sequence[Trajectory],
    undesirable: Sequence[Trajectory],
    settings: KtoSettings,
    *,
    guard: GuardSettings,
    agent: str,
    start_reward: float,
) -> tuple[Agent, Round]:
    """Stage `<agent>`: the learner becomes `agent`, more likely to act as in `desirable` and less as in
    `undesirable` trajectories, its best checkpoint on dev; as it comes in, it is the reference.

    start_reward: of the learner as it comes in, on dev. guard: its bounds on chosen hold for what is
    desirable, those on rejected for what is not.
    """
    with lab.run.stage(Stage.separate(agent).name) as stage:
        if not stage.done:
            checks = Checks(lab, stage, start_reward)
            fit = unpaired(
                lab.learner,
                desirable,
                undesirable,
                settings,
                directory=stage.directory,
                progress=lab.scoring(stage.name),
                **lab.training,
            )
            train_checked(lab, stage, fit, checks, guard)
            keep_round(stage, fit, checks, guard, agent=agent, count=len(desirable) + len(undesirable))
            stage.note(desirable=len(desirable), undesirable=len(undesirable))
        made = lab.agent(agent, stage=stage.name)
        lab.become(made)
        done = kept_round(stage)
    drop_state(stage.directory)
    return made, done
