"""Behavioural cloning: supervised fine-tuning on the expert's actions (ETO, section 3.1)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from eto.errors import InputError, NothingLeft
from eto.losses.cloning import sft_loss
from eto.settings import SftSettings
from eto.tokens.fitting import fitted
from eto.tokens.prefix_tree import tree_of
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.types import Trajectory


def sft(
    learner: Learner,
    trajectories: Sequence[Trajectory],
    settings: SftSettings | None = None,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
) -> int:
    """All of `cloning`, at once; returns the optimiser steps taken."""
    fit = cloning(
        learner,
        trajectories,
        settings,
        seed=seed,
        directory=directory,
        checkpoint_seconds=checkpoint_seconds,
        activation_checkpointing=activation_checkpointing,
    )
    for _ in fit:
        pass
    return fit.step


def cloning(
    learner: Learner,
    trajectories: Sequence[Trajectory],
    settings: SftSettings | None = None,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
) -> Fit:
    """Training of `learner` in place on `trajectories`, step by step as it is iterated over.

    The loss is the mean negative log-likelihood (nats) of the agent's tokens (action and
    end-of-turn token) of a step. Over-long trajectories are cut at whole turns. With
    `directory` an interrupted call is resumed. Raises `InputError` where there is
    nothing to train on. Which trajectories are left out, `clonable` says.
    """
    settings = settings or SftSettings()
    examples = sft_examples(
        learner,
        clonable(trajectories, settings.zero_reward),
        observation_weight=settings.observation_weight,
    )
    if not examples:
        raise InputError(
            f"no turn to clone is left in the {learner.max_context} tokens of the context",
            where="model.max_context",
            hint="raise it, use a model with a longer context, or shorten the prompts",
        )
    return learner.fit(
        examples,
        _objective,
        settings,
        seed=seed,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings=_decisive(settings),
        directory=directory,
    )


def clonable(trajectories: Sequence[Trajectory], zero_reward: bool = False) -> list[Trajectory]:
    """The trajectories worth cloning; a warning counts the others, by reason.

    Left out are those that failed, have no turn that carries loss, or, without `zero_reward`,
    earned nothing. Raises `InputError` where none is left.
    """
    judgements = [_why_not(each, zero_reward) for each in trajectories]
    left_out = Counter(filter(None, judgements))
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    if left_out.total() == len(trajectories):
        earned = "; `method.sft.zero_reward=true` clones those of reward 0" if _NO_REWARD in left_out else ""
        raise InputError(
            "no expert trajectory to clone" + (f": {counts}" if counts else ""),
            hint=f"collect some with `eto expert`{earned}",
        )
    if counts:
        warnings.warn(f"left out of cloning: {counts}, of {len(trajectories)} trajectories", stacklevel=3)
    return [each for each, judgement in zip(trajectories, judgements, strict=True) if not judgement]


_NO_REWARD = "of reward 0"


def _why_not(trajectory: Trajectory, zero_reward: bool) -> str:
    if trajectory.failed:
        return "failed"
    if not any(turn.loss for turn in trajectory.turns):
        return "without a turn that carries loss"
    return _NO_REWARD if trajectory.reward == 0 and not zero_reward else ""


def _decisive(settings: SftSettings) -> object:
    weight = settings.observation_weight
    return ("cloning", weight) if weight else "cloning"


def sft_examples(
    learner: Learner,
    trajectories: Sequence[Trajectory],
    size: float | None = None,
    *,
    observation_weight: float = 0.0,
) -> list[Example]:
    """Those of `trajectories` that have a turn to clone within the learner's context, as by `sft_example`;
    a warning counts the others."""
    examples = []
    for trajectory in trajectories:
        with suppress(NothingLeft):
            examples.append(sft_example(learner, trajectory, size, observation_weight=observation_weight))
    if left_out := len(trajectories) - len(examples):
        warnings.warn(
            f"{left_out} of {len(trajectories)} trajectories are left out of cloning: no turn that carries "
            f"loss fits into {learner.max_context} tokens",
            stacklevel=3,
        )
    return examples


def sft_example(
    learner: Learner,
    trajectory: Trajectory,
    size: float | None = None,
    *,
    observation_weight: float = 0.0,
) -> Example:
    """A trajectory to clone; it counts in a step's mean by its weighted tokens, or by `size`.

    With `observation_weight` the tree has a second leaf with the observations' tokens, which share their
    row with the agent's. The learner's guesses of actions learn from it too (see
    `eto.engines.in_process.ngram_drafter`).
    """
    observed = observation_weight > 0
    samples = fitted(trajectory, learner.renderer, learner.max_context, to_the_end=observed)
    for rendered in samples:
        learner.remember(rendered)
    sides = [[(rendered.ids, rendered.turns) for rendered in samples]]
    if observed:
        sides.append([(rendered.ids, rendered.observations) for rendered in samples])
    tree = tree_of(sides)
    weights = tuple(
        np.full(len(leaf.targets), weight, dtype=np.float32)
        for leaf, weight in zip(tree.leaves, (1.0, observation_weight), strict=False)
    )
    total = float(sum(weight.sum(dtype=np.float64) for weight in weights))
    return Example(tree, weights, size=total if size is None else size)


def _objective(example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
    if len(outputs) == 1:
        return sft_loss(outputs[0].log_probs) * example.size, {}
    own, observed = (leaf.log_probs for leaf in outputs)
    weight = float(example.weights[1][0]) if len(example.weights[1]) else 0.0
    share = example.size / (len(own) + weight * len(observed))
    figures = {"agent_nll": float(-own.detach().mean())}
    if len(observed):
        figures["observation_nll"] = float(-observed.detach().mean())
    return -(own.sum() + weight * observed.sum()) * share, figures
