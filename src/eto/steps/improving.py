"""Improving: a round of PPO on the episodes of the agent that is to be improved."""

from __future__ import annotations

from collections.abc import Sequence

from safetensors.torch import load_file, save_file
from torch import Tensor

from eto.data.arrays import in_order, mark_of, numbered, read_arrays, write_arrays
from eto.experiment.lab import Lab
from eto.experiment.stage import OpenStage
from eto.models.architecture import base_of
from eto.protocols import Agent
from eto.settings.policy_gradient import PpoUpdateSettings
from eto.steps.cloning import drop_state, save_model
from eto.training.example import Example
from eto.training.policy_gradient import add_value_head, credited, episode_examples, ppo
from eto.types import Trajectory

HEAD = "value_head.safetensors"


def improve(
    lab: Lab,
    episodes: Sequence[Trajectory],
    settings: PpoUpdateSettings,
    *,
    base: Agent,
    acting: Agent,
    agent: str,
) -> Agent:
    """Stage `<agent>`: the learner becomes `agent`, from `acting`, which played `episodes`.

    base: the reference of the penalty. The value head goes on from round to round, from 0.
    """
    with lab.run.stage(agent) as stage:
        made = lab.agent(agent, stage=stage.name)
        if not stage.done:
            examples = _credited(lab, episodes, settings, base, acting, stage)
            fit = ppo(lab.learner, examples, settings, directory=stage.directory, **lab.training)
            lab.show(stage.name, fit)
            for step in fit:
                lab.log(stage.name, step)
                if settings.target_kl is not None and step.figures["kl"] > settings.target_kl:
                    fit.stop(f"KL {step.figures['kl']:.3f} nats a token above target_kl")
            save_model(lab.learner, stage.directory)
            save_file(_head(lab), stage.directory / HEAD)
            stage.note(episodes=len(examples), stopped=fit.stopped, tokens=fit.tokens)
            stage.makes(agent)
        lab.become(made)
    drop_state(stage.directory)
    return made


def _credited(
    lab: Lab,
    episodes: Sequence[Trajectory],
    settings: PpoUpdateSettings,
    base: Agent,
    acting: Agent,
    stage: OpenStage,
) -> list[Example]:
    """The episodes with advantages; what scoring gave is kept with the stage for a later start, in which
    the weights are those of the interrupted training. The learner then is `acting` with its value head."""
    tokens = settings.micro_batch_tokens
    path, mark = stage.directory / "scored.npz", mark_of(episodes)
    if not path.exists():
        told = lab.scoring(stage.name)
        lab.become(base)
        trees = [example.tree for example, _ in episode_examples(lab.learner, episodes)]
        reference = [leaf for [leaf] in lab.learner.score(trees, tokens, progress=told)]
        lab.become(acting)
        _attach_head(lab, acting)
        old = [leaf for [leaf] in lab.learner.score(trees, tokens, progress=told)]
        values = [leaf for [leaf] in lab.learner.values(trees, tokens, progress=told)]
        columns = {"reference": reference, "old": old, "values": values}
        named = {key: each for name, kept in columns.items() for key, each in numbered(name, kept).items()}
        write_arrays(path, named, mark)
    else:
        lab.become(acting)
        _attach_head(lab, acting)
    examples = episode_examples(lab.learner, episodes)
    scored = read_arrays(path, mark)
    old, reference, values = (in_order(name, scored) for name in ("old", "reference", "values"))
    return credited(examples, old, reference, values, settings)


def _attach_head(lab: Lab, acting: Agent) -> None:
    """The value head that the round before left beside its model, or a new one."""
    path = acting.directory.parent / HEAD
    add_value_head(lab.learner, load_file(path) if path.exists() else None)


def _head(lab: Lab) -> dict[str, Tensor]:
    head = base_of(lab.learner.model).value_head
    return {name: weight.detach().cpu().contiguous() for name, weight in head.named_parameters()}
