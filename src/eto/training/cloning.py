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
    examples = sft_examples(learner, clonable(trajectories, settings.zero_reward))
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
        objective_settings="cloning",
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


def sft_examples(
    learner: Learner, trajectories: Sequence[Trajectory], size: float | None = None
) -> list[Example]:
    """Those of `trajectories` that have a turn to clone within the learner's context, as by `sft_example`;
    a warning counts the others."""
    examples = []
    for trajectory in trajectories:
        with suppress(NothingLeft):
            examples.append(sft_example(learner, trajectory, size))
    if left_out := len(trajectories) - len(examples):
        warnings.warn(
            f"{left_out} of {len(trajectories)} trajectories are left out of cloning: no turn that carries "
            f"loss fits into {learner.max_context} tokens",
            stacklevel=3,
        )
    return examples


def sft_example(learner: Learner, trajectory: Trajectory, size: float | None = None) -> Example:
    """A trajectory to clone; it counts in a step's mean by its agent tokens, or by `size`.

    The learner's guesses of actions learn from it too (see `eto.engines.in_process.ngram_drafter`).
    """
    samples = fitted(trajectory, learner.renderer, learner.max_context)
    for rendered in samples:
        learner.remember(rendered)
    tree = tree_of([[(rendered.ids, rendered.turns) for rendered in samples]])
    tokens = len(tree.leaves[0].targets)
    return Example(tree, (np.ones(tokens, dtype=np.float32),), size=float(tokens) if size is None else size)


def _objective(example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
    return sft_loss(outputs[0].log_probs) * example.size, {}
