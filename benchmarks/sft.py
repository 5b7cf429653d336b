"""Behavioural cloning: tokens a second against TRL's SFTTrainer with packing.

The same expert trajectories, model, dtype and about the same tokens a step (ours fills steps up to
1,000 tokens, TRL packs rows of up to 1,000 or the longest trajectory, one a step); the loss is on the
agent's tokens alone (TRL: `assistant_only_loss`, with a chat template that has generation markers and
the same text). Tokens are those of the rendered trajectories. Ours counts rendering into its time;
TRL's excludes tokenising and packing. TRL checkpoints activations by default; it is measured without
too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import eto
from benchmarks.frame import Outcome, Ratio, alternate, median_ratio, rows
from eto.types import Trajectory

STEP_TOKENS = 1000
LEARNING_RATE = 2e-5
OURS = "eto"
DEFAULTS = "TRL, packing"
UNCHECKPOINTED = "TRL, packing, no gradient checkpointing"


def run(quick: bool) -> Outcome:
    from benchmarks.agent import prepared

    agent = prepared()
    return measured(agent.model, spread(agent.experts, 8 if quick else 16), quick)


def spread(trajectories: Sequence[Trajectory], count: int) -> list[Trajectory]:
    """`count` of the trajectories over all task types. Raises RuntimeError where there are fewer."""
    if len(trajectories) < count:
        raise RuntimeError(f"only {len(trajectories)} trajectories, {count} wanted")
    return [trajectories[number * len(trajectories) // count] for number in range(count)]


def measured(model: Path, trajectories: Sequence[Trajectory], quick: bool) -> Outcome:
    """Speed and equality on `trajectories`."""
    import torch

    policy = eto.load_learner(model)
    bf16 = policy.dtype == torch.bfloat16
    rendered = [policy.renderer.render(trajectory) for trajectory in trajectories]
    tokens = sum(len(each.ids) for each in rendered)
    agent_tokens = sum(sum(each.mask) for each in rendered)
    del policy
    steps: dict[str, int] = {}

    def ours() -> float:
        seconds, steps[OURS] = train_ours(model, trajectories)
        return tokens / seconds

    def trl(name: str, checkpointing: bool) -> float:
        seconds, steps[name], counted = train_trl(model, trajectories, bf16, checkpointing)
        if counted != agent_tokens:
            raise AssertionError(f"TRL's masks select {counted} tokens, ours {agent_tokens}")
        return tokens / seconds

    speed = alternate(
        {
            OURS: ours,
            DEFAULTS: partial(trl, DEFAULTS, True),
            UNCHECKPOINTED: partial(trl, UNCHECKPOINTED, False),
        },
        1 if quick else 5,
    )
    checked = sorted(trajectories, key=lambda each: len(each.turns))[: 2 if quick else 4]
    return Outcome(
        title="Cloning against TRL",
        setting=f"SmolLM2-135M, {len(trajectories)} ScienceWorld expert trajectories, {tokens} tokens "
        f"({agent_tokens} of the agent), {'bf16 compute' if bf16 else 'fp32'}, {torch.get_num_threads()} "
        f"threads; optimiser steps: eto {steps[OURS]}, TRL {steps[DEFAULTS]}.",
        rows=rows(speed, "tokens/s"),
        ratios=[
            Ratio(f"tokens/s, eto / {DEFAULTS}", median_ratio(speed, OURS, DEFAULTS), 2.0),
            Ratio(f"tokens/s, eto / {UNCHECKPOINTED}", median_ratio(speed, OURS, UNCHECKPOINTED)),
        ],
        same=f"Both masks select {agent_tokens} tokens. {same_losses(model, checked)}",
        notes=["Gradient checkpointing is on by TRL's default."],
    )


def train_ours(model: Path, trajectories: Sequence[Trajectory]) -> tuple[float, int]:
    """Seconds and steps of one epoch, from the weights in `model`."""
    policy = eto.load_learner(model)
    settings = eto.SftSettings(epochs=1, learning_rate=LEARNING_RATE, batch_tokens=STEP_TOKENS)
    begun = time.perf_counter()
    steps = eto.sft(policy, trajectories, settings)
    return time.perf_counter() - begun, steps


def train_trl(
    model: Path, trajectories: Sequence[Trajectory], bf16: bool, checkpointing: bool
) -> tuple[float, int, int]:
    """Seconds, steps and tokens with loss of one epoch by TRL, from the weights in `model`."""
    from benchmarks.trl_peers import train_sft

    trained = train_sft(
        model,
        trajectories,
        bf16=bf16,
        packed_tokens=STEP_TOKENS,
        checkpointing=checkpointing,
        learning_rate=LEARNING_RATE,
    )
    return trained.seconds, len(trained.losses), trained.loss_tokens


def same_losses(model: Path, trajectories: Sequence[Trajectory]) -> str:
    """One step on all `trajectories` in fp32, TRL's without packing. Raises AssertionError if they differ."""
    from benchmarks.trl_peers import train_sft

    settings = eto.SftSettings(epochs=1, learning_rate=LEARNING_RATE, batch_size=len(trajectories))
    learner = eto.load_learner(model, dtype="float32")
    found = [step.figures for step in eto.cloning(learner, trajectories, settings)]
    trained = train_sft(model, trajectories, bf16=False, packed_tokens=None, batch_size=len(trajectories))
    text = (
        f"fp32, {len(trajectories)} trajectories, unpacked: loss {found[0]['loss']:.6f} (TRL "
        f"{trained.losses[0]:.6f}), norm of its gradient {found[0]['grad_norm']:.5g} "
        f"({trained.gradient_norms[0]:.5g})."
    )
    agree = math.isclose(found[0]["loss"], trained.losses[0], abs_tol=1e-4) and math.isclose(
        found[0]["grad_norm"], trained.gradient_norms[0], rel_tol=1e-3
    )
    if not agree:
        raise AssertionError(f"TRL and eto disagree: {text}")
    return text
