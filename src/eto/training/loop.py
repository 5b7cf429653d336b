"""The one optimisation loop: it knows trees, weights and a loss, not which method called it."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from transformers import get_scheduler

from eto.training.batches import at_a_time, split
from eto.training.computing import Computing, Example, Objective
from eto.training.memory import planned_memory
from eto.training.trees import Tree


@dataclass(frozen=True, slots=True)
class Optimisation:
    """Settings of one training stage."""

    epochs: int
    learning_rate: float
    batch_size: int = 32
    """Examples of an optimiser step."""
    batch_tokens: int | None = None
    """Tree tokens of an optimiser step; replaces `batch_size`."""
    schedule: str = "cosine"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    micro_batch_tokens: int = 1024
    """Tree tokens of the forward passes that run at the same time; decides memory, not the result."""
    dtype: torch.dtype = torch.float32
    """Compute dtype; weights stay as they are."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass; None: where they would not fit into memory."""
    checkpoint_seconds: float = 120.0
    seed: int = 0

    @classmethod
    def of(cls, settings: Any, **others: Any) -> Optimisation:
        """What a method's settings share with this class by name, with `others` beside it."""
        names = {each.name for each in fields(cls)} & {each.name for each in fields(settings)}
        return cls(**{name: getattr(settings, name) for name in names} | others)


def optimise(
    model: Any,
    examples: Sequence[Example],
    objective: Objective,
    settings: Optimisation,
    *,
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
    finished again. Raises `EngineFailure` if the loss is not a number.
    """
    accelerator = Accelerator()
    plan = _plan(examples, settings)
    computing = Computing(accelerator, model)
    passes = _forward_passes(examples, plan, settings, computing.lanes.count)
    memory, recompute = planned_memory(
        model, passes, settings.dtype, settings.activation_checkpointing, computing.lanes.count
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser, scheduler = _optimiser(trained, settings, len(plan))
    optimiser = accelerator.prepare(optimiser)
    step, stopped = _resume(directory, model, optimiser, scheduler)
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
            started = time.monotonic()
            epoch, chosen = plan[step]
            # Dropout depends on the step alone, so a resumed call draws what the undisturbed one does.
            torch.manual_seed(settings.seed + step)
            batch = [examples[i] for i in chosen]
            figures = computing.gradients(batch, objective, settings.micro_batch_tokens)
            norm = accelerator.clip_grad_norm_(trained, settings.max_grad_norm)
            optimiser.step()
            scheduler.step()
            computing.replicas.refresh()
            step += 1
            tokens = sum(example.tree.plain_tokens for example in batch)
            figures |= {
                "step": step,
                "steps": len(plan),
                "epoch": epoch + 1,
                "grad_norm": float(norm),
                "learning_rate": scheduler.get_last_lr()[0],
                "tokens_per_second": tokens / (time.monotonic() - started),
            }
            stopped = bool(on_step and on_step(figures))
            last = stopped or step == len(plan) or plan[step][0] != epoch
            if directory and (time.monotonic() - saved > settings.checkpoint_seconds or (last and on_epoch)):
                _save(directory, {"step": step, "stopped": stopped}, model, optimiser, scheduler)
                saved = time.monotonic()
    return step


def _optimiser(
    trained: list[torch.nn.Parameter], settings: Optimisation, steps: int
) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW and the course of its learning rate."""
    optimiser = torch.optim.AdamW(
        trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    warmup = math.ceil(settings.warmup_ratio * steps)
    return optimiser, get_scheduler(settings.schedule, optimiser, warmup, steps)


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
            full = len(batch) >= settings.batch_size
            if settings.batch_tokens is not None:
                filled = sum(len(examples[i].tree) for i in batch)
                full = bool(batch) and filled + len(examples[index].tree) > settings.batch_tokens
            if full:
                plan.append((epoch, batch))
                batch = []
            batch.append(index)
        plan.append((epoch, batch))
    return plan


def _save(directory: Path, progress: dict, model: Any, optimiser: Any, scheduler: Any) -> None:
    """Write the state beside the old one, then take its place."""
    fresh, current = directory / "state.new", directory / "state"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, fresh / "trained.safetensors")
    torch.save({"optimiser": optimiser.state_dict(), "scheduler": scheduler.state_dict()}, fresh / "state.pt")
    (fresh / "step.json").write_text(json.dumps(progress))
    old = directory / "state.old"
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        os.rename(current, old)
    os.rename(fresh, current)
    shutil.rmtree(old, ignore_errors=True)


def _resume(directory: Path | None, model: Any, optimiser: Any, scheduler: Any) -> tuple[int, bool]:
    """Load the newest complete state; returns its steps, and whether it was told to stop there."""
    for name in ("state", "state.old"):
        if directory is None or not (directory / name / "step.json").exists():
            continue
        state = directory / name
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for key, value in load_file(state / "trained.safetensors").items():
                parameters[key].copy_(value)
        saved = torch.load(state / "state.pt", weights_only=True)
        optimiser.load_state_dict(saved["optimiser"])
        scheduler.load_state_dict(saved["scheduler"])
        progress = json.loads((state / "step.json").read_text())
        return progress["step"], progress["stopped"]
    return 0, False
