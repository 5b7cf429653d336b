"""Cloning: an agent that imitates trajectories."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eto.data.atomic import atomic_directory
from eto.experiment.lab import Lab
from eto.protocols import Agent
from eto.runtime import release_memory
from eto.settings import SftSettings
from eto.training.cloning import cloning
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.training.learner import Learner


def clone(
    lab: Lab,
    trajectories: Sequence[Trajectory],
    settings: SftSettings,
    *,
    agent: str = "sft",
    afresh: bool = False,
    prompt: str = "",
) -> Agent:
    """Stage `<agent>`: clone `trajectories`; the learner becomes the cloned agent.

    Where a run has no experts, and nothing else is to be cloned, the agent is the learner as it is. afresh:
    begin with the recipe's model, not with the learner as it is. prompt: what the prompts end with when the
    agent acts.
    """
    with lab.run.stage(agent) as stage:
        made = lab.agent(agent, stage=stage.name, prompt=prompt)
        if not stage.done:
            if afresh:
                lab.begin_again()
            tokens = 0
            if trajectories or lab.experts:
                fit = cloning(lab.learner, trajectories, settings, directory=stage.directory, **lab.training)
                lab.train(stage.name, fit)
                tokens = fit.tokens
            else:
                start = lab.current.name if lab.current else "the recipe's model"
                lab.watch.say(f"there is nothing to clone: {agent} is {start} as it is")
            save_model(lab.learner, stage.directory)
            stage.note(trajectories=len(trajectories), tokens=tokens)
            if prompt:
                stage.note(prompt=prompt)
            stage.makes(agent)
        lab.become(made)
    drop_state(stage.directory)
    return made


def save_model(learner: Learner, directory: Path) -> None:
    """Put the learner's model in a stage's directory, whole or not at all.

    What training has freed is given back first: saving needs a copy of the weights, and loading them after it
    one more.
    """
    release_memory()
    with atomic_directory(directory / "model") as fresh:
        learner.save(fresh)


def drop_state(directory: Path) -> None:
    """Delete the state of training, which serves only to resume a stage that is not done."""
    shutil.rmtree(directory / "state", ignore_errors=True)
