"""Behavioural cloning: supervised fine-tuning on the expert's actions (ETO, section 3.1)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from eto.errors import InputError, NothingLeft
from eto.losses import sft_loss
from eto.rendering import Rendered, check_mask
from eto.settings import SftSettings
from eto.training.learner import Learner
from eto.training.loop import Example, optimise
from eto.training.trees import tree_of
from eto.types import Trajectory


def sft(
    policy: Learner,
    trajectories: Sequence[Trajectory],
    settings: SftSettings | None = None,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
    on_start: Callable[[dict[str, float]], object] | None = None,
    on_step: Callable[[dict[str, float]], object] | None = None,
) -> int:
    """Train `policy` in place on `trajectories`; returns the optimiser steps taken.

    The loss is the mean negative log-likelihood of the agent's tokens (action and
    end-of-turn token) of a step. Over-long trajectories are cut at whole turns. With
    `directory` an interrupted call is resumed. `on_start` gets what training will take
    (see `eto.training.loop.optimise`), `on_step` each step's figures. Raises `InputError` where there is
    nothing to train on. Which trajectories are left out, `clonable` says.
    """
    settings = settings or SftSettings()
    examples = sft_examples(policy, clonable(trajectories, settings.zero_reward))
    if not examples:
        raise InputError(
            f"no turn to clone is left in the {policy.max_context} tokens of the context",
            where="model.max_context",
            mend="raise it, use a model with a longer context, or shorten the prompts",
        )
    policy.weights_changed()
    return optimise(
        policy.model,
        examples,
        _objective,
        settings,
        seed=seed,
        dtype=policy.dtype,
        fast_paths=policy.fast_paths,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        objective_settings="cloning",
        directory=directory,
        on_start=on_start,
        on_step=(lambda figures: bool(on_step(figures) and False)) if on_step else None,
    )


def clonable(trajectories: Sequence[Trajectory], zero_reward: bool = False) -> list[Trajectory]:
    """The trajectories worth cloning; a warning counts the others, by reason.

    Left out are those that failed, have no turn that carries loss, or, without `zero_reward`,
    earned nothing. Raises `InputError` where none is left.
    """
    fates = [_why_not(each, zero_reward) for each in trajectories]
    left_out = Counter(filter(None, fates))
    told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    if left_out.total() == len(trajectories):
        earned = "; `method.sft.zero_reward=true` clones those of reward 0" if _NO_REWARD in left_out else ""
        raise InputError(
            "no expert trajectory to clone" + (f": {told}" if told else ""),
            mend=f"collect some with `eto expert`{earned}",
        )
    if told:
        warnings.warn(f"left out of cloning: {told}, of {len(trajectories)} trajectories", stacklevel=3)
    return [each for each, fate in zip(trajectories, fates, strict=True) if not fate]


_NO_REWARD = "of reward 0"


def _why_not(trajectory: Trajectory, zero_reward: bool) -> str:
    if trajectory.failed:
        return "failed"
    if not any(turn.loss for turn in trajectory.turns):
        return "without a turn that carries loss"
    return _NO_REWARD if trajectory.reward == 0 and not zero_reward else ""


def sft_examples(
    policy: Learner, trajectories: Sequence[Trajectory], size: float | None = None
) -> list[Example]:
    """Those of `trajectories` that have a turn to clone within the policy's context, as by `sft_example`;
    a warning counts the others."""
    examples = []
    for trajectory in trajectories:
        with suppress(NothingLeft):
            examples.append(sft_example(policy, trajectory, size))
    if left_out := len(trajectories) - len(examples):
        warnings.warn(
            f"{left_out} of {len(trajectories)} trajectories are left out of cloning: no turn that carries "
            f"loss fits into {policy.max_context} tokens",
            stacklevel=3,
        )
    return examples


def sft_example(policy: Learner, trajectory: Trajectory, size: float | None = None) -> Example:
    """A trajectory to clone; it counts in a step's mean by its agent tokens, or by `size`.

    The policy's guesses of actions learn from it too (see `eto.engines.in_process.ngram_drafter`).
    """
    samples = fitted(policy, trajectory)
    for rendered in samples:
        policy.remember(rendered)
    tree = tree_of([[(rendered.ids, rendered.turns) for rendered in samples]])
    tokens = len(tree.leaves[0].targets)
    return Example(tree, (np.ones(tokens, dtype=np.float32),), size=float(tokens) if size is None else size)


def fitted(policy: Learner, trajectory: Trajectory) -> tuple[Rendered, ...]:
    """`trajectory` as tokens, in one sample or several (see `Renderer.samples`).

    Cut at whole turns to the policy's context with a warning that counts them. Raises `NothingLeft`
    where no turn that carries loss is left.
    """
    samples = policy.renderer.samples(trajectory, max_tokens=policy.max_context)
    dropped = samples[-1].dropped_turns
    if not any(turn.loss for turn in trajectory.turns[: len(trajectory.turns) - dropped]):
        raise NothingLeft("no turn that carries loss is left", where=trajectory.task.id, mend="drop it")
    for rendered in samples:
        check_mask(rendered, trajectory.task.id)
    if dropped:
        cut = f"the last {dropped} of {len(trajectory.turns)} turns"
        warnings.warn(
            f"{trajectory.task.id}: {cut} do not fit {policy.max_context} tokens and are left out",
            stacklevel=2,
        )
    return samples


def _objective(example: Example, leaves: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
    return sft_loss(leaves[0]) * example.size, {}
