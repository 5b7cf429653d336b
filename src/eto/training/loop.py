"""The one optimisation loop: it knows trees, weights and a loss, not which method called it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eto.limits import Seed, check_values
from eto.settings import TrainingSettings
from eto.training.backends import Backend, backend_for
from eto.training.batches import at_a_time, split
from eto.training.checkpoint import Progress, fingerprint, load_state, save_state
from eto.training.computing import Example, Objective
from eto.training.memory import planned_memory
from eto.training.schedule import rate_share, warmup_steps
from eto.training.trees import Tree

MICRO_BATCH_TOKENS = 1024
"""Tree tokens of the forward passes that run at the same time, where settings do not say."""


def optimise(
    model: Any,
    examples: Sequence[Example],
    objective: Objective,
    settings: TrainingSettings,
    *,
    seed: Seed = 0,
    dtype: torch.dtype = torch.float32,
    activation_checkpointing: bool | None = None,
    fast_paths: bool = True,
    checkpoint_seconds: float = 120.0,
    objective_settings: object = None,
    directory: Path | None = None,
    on_start: Callable[[dict[str, float]], object] | None = None,
    on_step: Callable[[dict[str, float]], bool] | None = None,
    on_epoch: Callable[[int], bool] | None = None,
) -> int:
    """Train `model` in place; returns the number of optimiser steps taken.

    `dtype`: of the computation, not of weights. `activation_checkpointing` None: where memory asks for it.
    `fast_paths`: those of a CPU; False computes by plain autograd.
    `on_start` gets `step` and `steps`, the `memory_gb` that training will take at its peak,
    the model included, and whether it recomputes activations (`checkpointing` 0 or 1).
    `on_step` gets each step's figures and may return True to stop; `on_epoch` is called
    after each epoch (from 1) and may too. With `directory` the state is saved there
    every `checkpoint_seconds` and, with `on_epoch`, at each epoch's end; a later call
    with the same arguments goes on from it, and calls `on_epoch` of the epoch just
    finished again; one with other examples, settings or `objective_settings` raises `InputError`.
    Raises `EngineFailure` if the loss is not a number, `MissingRequirement` on a full disk.
    """
    _check(seed, dtype, activation_checkpointing, checkpoint_seconds)
    plan = _plan(examples, settings, seed)
    computing = backend_for(model, fast_paths=fast_paths, dropout=settings.dropout)
    passes = _forward_passes(examples, plan, settings, computing.concurrent)
    memory, recompute = planned_memory(model, passes, dtype, activation_checkpointing, computing.concurrent)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    training = fingerprint(examples, decisive(settings, seed), objective_settings) if directory else ""
    progress = load_state(directory, training, model, optimiser)
    step, stopped = progress.step, progress.stopped
    warmup = warmup_steps(settings.warmup_ratio, len(plan))
    if on_start is not None:
        figures = {"memory_gb": memory.total / 1e9, "checkpointing": float(recompute)}
        on_start({"step": step, "steps": len(plan), **figures})
    saved = time.monotonic()
    with computing:
        computing.begin(dtype, recompute_activations=recompute)
        while True:
            epoch_over = step > 0 and (stopped or step == len(plan) or plan[step][0] != plan[step - 1][0])
            if epoch_over and on_epoch and on_epoch(plan[step - 1][0] + 1):
                break
            if stopped or step == len(plan):
                break
            epoch, chosen = plan[step]
            # Dropout depends on the step alone, so a resumed call draws what the undisturbed one does.
            torch.manual_seed(seed + step)
            rate = settings.learning_rate * rate_share(settings.schedule, step, warmup, len(plan))
            batch = [examples[i] for i in chosen]
            figures = _update(computing, optimiser, batch, objective, settings, rate)
            step += 1
            figures |= {"step": step, "steps": len(plan), "epoch": epoch + 1}
            stopped = bool(on_step and on_step(figures))
            last = stopped or step == len(plan) or plan[step][0] != epoch
            if directory and (time.monotonic() - saved > checkpoint_seconds or (last and on_epoch)):
                save_state(directory, Progress(step, stopped, training), model, optimiser)
                saved = time.monotonic()
    return step


def _check(*given: object) -> None:
    names = ("seed", "dtype", "activation_checkpointing", "checkpoint_seconds")
    check_values(optimise, dict(zip(names, given, strict=True)))


def at_once(settings: TrainingSettings) -> int:
    """Tree tokens of the forward passes that run at the same time."""
    return settings.micro_batch_tokens or MICRO_BATCH_TOKENS


def decisive(settings: TrainingSettings, seed: int) -> tuple[object, ...]:
    """Values that decide the result; a state of training is of one such tuple."""
    names = ("epochs", "learning_rate", "batch_size", "batch_tokens", "schedule", "warmup_ratio")
    names += ("weight_decay", "max_grad_norm", "dropout")
    return (*(getattr(settings, name) for name in names), seed)


def _update(
    computing: Backend,
    optimiser: Any,
    batch: Sequence[Example],
    objective: Objective,
    settings: TrainingSettings,
    rate: float,
) -> dict[str, float]:
    """One optimiser step at `rate`; its figures."""
    started = time.monotonic()
    figures = computing.gradients(batch, objective, at_once(settings))
    trained = [weight for group in optimiser.param_groups for weight in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    computing.sync_weights()
    tokens = sum(example.tree.plain_tokens for example in batch)
    speed = tokens / (time.monotonic() - started)
    return figures | {"grad_norm": float(norm), "learning_rate": rate, "tokens_per_second": speed}


def _forward_passes(
    examples: Sequence[Example], plan: Sequence[tuple[int, list[int]]], settings: TrainingSettings, lanes: int
) -> list[tuple[Tree, ...]]:
    """The trees that pass at the same time, for all of training."""
    passes = []
    for _, batch in plan:
        trees = [examples[i].tree for i in batch]
        found = split(trees, at_once(settings), lanes)
        passes += [tuple(trees[i] for i in moment) for moment in at_a_time(found)]
    return passes


def _plan(examples: Sequence[Example], settings: TrainingSettings, seed: int) -> list[tuple[int, list[int]]]:
    """(epoch, example numbers) of every optimiser step, from the seed alone."""
    plan = []
    for epoch in range(settings.epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(examples)).tolist()
        batch: list[int] = []
        for index in order:
            full = settings.batch_size is not None and len(batch) >= settings.batch_size
            if settings.batch_tokens is not None:
                filled = sum(len(examples[i].tree) for i in batch)
                full = bool(batch) and filled + len(examples[index].tree) > settings.batch_tokens
            if full:
                plan.append((epoch, batch))
                batch = []
            batch.append(index)
        plan.append((epoch, batch))
    return plan
