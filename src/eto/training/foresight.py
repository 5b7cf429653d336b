"""Learning what an action leads to: the loss of the observation that follows it (implicit world modelling,
Early Experience, arXiv 2510.08558)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from eto.errors import InputError, NothingLeft
from eto.losses.cloning import sft_loss
from eto.settings import SftSettings
from eto.tokens.fitting import fitted
from eto.tokens.observations import NO_OBSERVATION
from eto.tokens.prefix_tree import tree_of
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.types import Trajectory


def foresight(
    learner: Learner,
    trajectories: Sequence[Trajectory],
    settings: SftSettings,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
) -> Fit:
    """Training of `learner` in place on the last observation of each trajectory, step by step as it is
    iterated over: -log p(s' | s, a), the mean over a step's observation tokens (section 4.2).

    Raises `InputError` where no trajectory ends with an observation within the context.
    """
    examples = []
    for trajectory in trajectories:
        with suppress(NothingLeft):
            if (example := last_observation(learner, trajectory)) is not None:
                examples.append(example)
    if not examples:
        raise InputError(
            "no trajectory ends with an observation within the context",
            where="model.max_context",
            hint="raise it, or take an environment that answers the last action",
        )
    return learner.fit(
        examples,
        _objective,
        settings,
        seed=seed,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings="foresight",
        directory=directory,
    )


def last_observation(learner: Learner, trajectory: Trajectory) -> Example | None:
    """The trajectory with loss on the tokens of its last turn's observation alone; None where they are
    empty or do not fit."""
    samples = fitted(trajectory, learner.renderer, learner.max_context, to_the_end=True)
    last = len(trajectory.turns) - 1
    marked = [
        (each.ids, [turn if turn == last else NO_OBSERVATION for turn in each.observations])
        for each in samples
    ]
    if not any(turn == last for _, turns in marked for turn in turns):
        return None
    tree = tree_of([marked])
    tokens = len(tree.leaves[0].targets)
    return Example(tree, (np.ones(tokens, dtype=np.float32),), size=float(tokens))


def _objective(example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
    return sft_loss(outputs[0].log_probs) * example.size, {}
