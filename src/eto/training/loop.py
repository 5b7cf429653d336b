"""The one optimisation loop: it knows trees, weights and a loss, not which method called it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from eto.limits import Count, NotNegative, Positive, Schedule, Seed, Share, check
from eto.training.batches import at_a_time, split
from eto.training.checkpoint import Progress, fingerprint, load_state, save_state
from eto.training.computing import Computing, Example, Objective
from eto.training.memory import planned_memory
from eto.training.schedule import rate_share, warmup_steps
from eto.training.trees import Tree

BATCH_SIZE = 32
"""Examples of an optimiser step where nothing says otherwise."""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """Settings of one training stage. Raises `InputError` for a value out of range, or without effect."""

    epochs: Count
    learning_rate: Positive
    batch_size: Count | None = None
    """Examples of an optimiser step; None: `BATCH_SIZE`, or what `batch_tokens` says."""
    batch_tokens: Count | None = None
    """Tree tokens of an optimiser step."""
    schedule: Schedule = "cosine"
    warmup_ratio: Share = 0.0
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    dropout: bool = True
    """False: nothing is dropped, whatever model and adapters say."""
    micro_batch_tokens: Count = 1024
    """Tree tokens of the forward passes that run at the same time; decides memory, not the result."""
    dtype: torch.dtype = torch.float32
    """Compute dtype; weights stay as they are."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass; None: where they would not fit into memory."""
    checkpoint_seconds: float = 120.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls, settings: Any, *, warmup_ratio: float, **others: Any) -> Optimisation:
        """What a method's settings share with this class by name, with `others` beside it.

        `warmup_ratio`: where they name none and the schedule has a warm-up.
        """
        names = {each.name for each in fields(cls)} & {each.name for each in fields(settings)}
        values = {name: getattr(settings, name) for name in names}
        if values["warmup_ratio"] is None:
            values["warmup_ratio"] = 0.0 if values["schedule"] == "constant" else warmup_ratio
        return cls(**values | others)

    @property
    def decisive(self) -> tuple[object, ...]:
        """Values that decide the result."""
        free = ("micro_batch_tokens", "dtype", "activation_checkpointing", "checkpoint_seconds")
        return tuple(getattr(self, each.name) for each in fields(self) if each.name not in free)


def optimise(
    model: Any,
    examples: Sequence[Example],
    objective: Objective,
    settings: Optimisation,
    *,
    objective_settings: object = None,
    directory: Path | None = None,
    on_start: Callable[[dict[str, float]], object] | None = None,
    on_step: Callable[[dict[str, float]], bool] | None = None,
    on_epoch: Callable[[int], bool] | None = None,
) -> int:
    """Train `model` in place; returns the number of optimiser steps taken.

    `on_start` gets `step` and `steps`, the `memory_gb` that training will take at its peak,
    the model included, and whether it recomputes activations (`checkpointing` 0 or 1).
    `on_step` gets each step's figures and may return True to stop; `on_epoch` is called
    after each epoch (from 1) and may too. With `directory` the state is saved there
    every `checkpoint_seconds` and, with `on_epoch`, at each epoch's end; a later call
    with the same arguments goes on from it, and calls `on_epoch` of the epoch just
    finished again; one with other examples, settings or `objective_settings` raises `InputError`.
    Raises `EngineFailure` if the loss is not a number, `MissingRequirement` on a full disk.
    """
    # Explicitly: a variable of accelerate's environment would scale the loss.
    accelerator = Accelerator(gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1))
    plan = _plan(examples, settings)
    computing = Computing(accelerator, model, dropout=settings.dropout)
    passes = _forward_passes(examples, plan, settings, computing.lanes.count)
    memory, recompute = planned_memory(
        model, passes, settings.dtype, settings.activation_checkpointing, computing.lanes.count
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = accelerator.prepare(
        torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    )
    training = fingerprint(examples, settings.decisive, objective_settings) if directory else ""
    progress = load_state(directory, training, model, optimiser)
    step, stopped = progress.step, progress.stopped
    warmup = warmup_steps(settings.warmup_ratio, len(plan))
    if on_start is not None:
        figures = {"memory_gb": memory.total / 1e9, "checkpointing": float(recompute)}
        on_start({"step": step, "steps": len(plan), **figures})
    saved = time.monotonic()
    with computing:
        computing.begin(settings.dtype, recompute_activations=recompute)
        while True:
            epoch_over = step > 0 and (stopped or step == len(plan) or plan[step][0] != plan[step - 1][0])
            if epoch_over and on_epoch and on_epoch(plan[step - 1][0] + 1):
                break
            if stopped or step == len(plan):
                break
            epoch, chosen = plan[step]
            # Dropout depends on the step alone, so a resumed call draws what the undisturbed one does.
            torch.manual_seed(settings.seed + step)
            rate = settings.learning_rate * rate_share(settings.schedule, step, warmup, len(plan))
            batch = [examples[i] for i in chosen]
            figures = _update(computing, optimiser, batch, objective, settings, rate)
            step += 1
            figures |= {"step": step, "steps": len(plan), "epoch": epoch + 1}
            stopped = bool(on_step and on_step(figures))
            last = stopped or step == len(plan) or plan[step][0] != epoch
            if directory and (time.monotonic() - saved > settings.checkpoint_seconds or (last and on_epoch)):
                save_state(directory, Progress(step, stopped, training), model, optimiser)
                saved = time.monotonic()
    return step


def _update(
    computing: Computing,
    optimiser: Any,
    batch: Sequence[Example],
    objective: Objective,
    settings: Optimisation,
    rate: float,
) -> dict[str, float]:
    """One optimiser step at `rate`; its figures."""
    started = time.monotonic()
    figures = computing.gradients(batch, objective, settings.micro_batch_tokens)
    trained = [weight for group in optimiser.param_groups for weight in group["params"]]
    norm = computing.accelerator.clip_grad_norm_(trained, settings.max_grad_norm)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    computing.replicas.refresh()
    tokens = sum(example.tree.plain_tokens for example in batch)
    speed = tokens / (time.monotonic() - started)
    return figures | {"grad_norm": float(norm), "learning_rate": rate, "tokens_per_second": speed}


def _forward_passes(
    examples: Sequence[Example], plan: Sequence[tuple[int, list[int]]], settings: Optimisation, lanes: int
) -> list[tuple[Tree, ...]]:
    """The trees that pass at the same time, for all of training."""
    passes = []
    for _, batch in plan:
        trees = [examples[i].tree for i in batch]
        found = split(trees, settings.micro_batch_tokens, lanes)
        passes += [tuple(trees[i] for i in moment) for moment in at_a_time(found)]
    return passes


def _plan(examples: Sequence[Example], settings: Optimisation) -> list[tuple[int, list[int]]]:
    """(epoch, example numbers) of every optimiser step, from the seed alone."""
    plan = []
    for epoch in range(settings.epochs):
        order = np.random.default_rng((settings.seed, epoch)).permutation(len(examples)).tolist()
        batch: list[int] = []
        for index in order:
            full = settings.batch_tokens is None and len(batch) >= (settings.batch_size or BATCH_SIZE)
            if settings.batch_tokens is not None:
                filled = sum(len(examples[i].tree) for i in batch)
                full = bool(batch) and filled + len(examples[index].tree) > settings.batch_tokens
            if full:
                plan.append((epoch, batch))
                batch = []
            batch.append(index)
        plan.append((epoch, batch))
    return plan
