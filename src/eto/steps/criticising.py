"""Criticising: the values of stored episodes' states, and an update of the agent by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eto.data.arrays import in_order, mark_of, numbered, read_arrays, write_arrays
from eto.experiment.lab import Lab
from eto.protocols import Agent
from eto.settings.critic import ClippedUpdateSettings, CriticSettings
from eto.steps.cloning import drop_state, save_model
from eto.training.critic import clipped_update, criticise, turn_advantages
from eto.training.policy_gradient import add_value_head, episode_examples
from eto.types import Trajectory


def advantages(
    lab: Lab,
    episodes: Sequence[Trajectory],
    settings: CriticSettings,
    *,
    acting: Agent,
    decay: float,
    stage: str,
) -> list[np.ndarray]:
    """Stage `stage`: a critic begun from `acting` learns the episodes' values; for each episode
    `[agent tokens]` advantages. The learner is `acting` again afterwards."""
    mark = mark_of(episodes)
    with lab.run.stage(stage) as under_way:
        path = under_way.directory / "advantages.npz"
        if not under_way.done:
            lab.become(acting)
            add_value_head(lab.learner)
            examples = episode_examples(lab.learner, episodes)
            fit = criticise(lab.learner, examples, settings, directory=under_way.directory, **lab.training)
            lab.train(stage, fit)
            trees = [example.tree for example, _ in examples]
            told = lab.scoring(stage)
            values = [
                leaf for [leaf] in lab.learner.values(trees, settings.micro_batch_tokens, progress=told)
            ]
            gained = turn_advantages(examples, values, settings.discount, decay)
            write_arrays(path, numbered("episode", gained), mark)
            under_way.note(episodes=len(examples), tokens=fit.tokens)
            lab.become(acting)
    drop_state(under_way.directory)
    return in_order("episode", read_arrays(path, mark))


def update(
    lab: Lab,
    episodes: Sequence[Trajectory],
    gained: Sequence[np.ndarray],
    settings: ClippedUpdateSettings,
    *,
    acting: Agent,
    agent: str,
) -> Agent:
    """Stage `<agent>`: the learner becomes `agent`, from `acting`, by the advantages of `episodes`."""
    with lab.run.stage(agent) as stage:
        made = lab.agent(agent, stage=stage.name)
        if not stage.done:
            lab.become(acting)
            examples = episode_examples(lab.learner, episodes)
            trees = [example.tree for example, _ in examples]
            path, mark = stage.directory / "scored.npz", mark_of(episodes)
            if not path.exists():  # else an earlier start scored them before its first update
                told = lab.scoring(stage.name)
                scored = lab.learner.score(trees, settings.micro_batch_tokens, progress=told)
                write_arrays(path, numbered("episode", [leaf for [leaf] in scored]), mark)
            old = in_order("episode", read_arrays(path, mark))
            fit = clipped_update(
                lab.learner, examples, old, gained, settings, directory=stage.directory, **lab.training
            )
            lab.train(stage.name, fit)
            save_model(lab.learner, stage.directory)
            stage.note(episodes=len(examples), tokens=fit.tokens)
            stage.makes(agent)
        lab.become(made)
    drop_state(stage.directory)
    return made
