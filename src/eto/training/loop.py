"""The one training loop: it knows trees, weights and a loss, not which method called it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from eto.data.files import disk_errors, write_atomic
from eto.settings import DistributedSettings, TrainingSettings
from eto.settings.limits import Seed, check_values
from eto.training.backends import Backend, backend_for, micro_batch_tokens
from eto.training.backends.core_groups import CoreGroupBackend
from eto.training.backends.sharded import Sharded, ShardedOptimiser, check_sent, optimiser_of
from eto.training.batches import forward_passes
from eto.training.checkpoint import Progress, fingerprint, load_state, save_state
from eto.training.example import Example, Objective
from eto.training.memory import planned_memory
from eto.training.optimiser import Optimiser
from eto.training.schedule import rate_share, warmup_steps
from eto.training.state import write_whole


class Trainee(Protocol):
    """What is trained; `eto.training.learner.Learner`."""

    model: Any
    dtype: torch.dtype
    """Of the computation, not of the weights."""
    fast_paths: bool
    distribution: DistributedSettings
    """Over which processes it is trained."""

    def weights_changed(self) -> None:
        """Called before an update."""

    def weights_elsewhere(self, fetch: Callable[[], None]) -> None:
        """Called after an update by other processes: `fetch` brings the model its weights."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """An optimiser step that was taken."""

    step: int
    """From 1."""
    steps: int
    """Of the whole training."""
    epoch: int
    """From 1."""
    figures: dict[str, float] = field(default_factory=dict)
    """Means over the batch: `loss` and what the objective gives; `grad_norm`, `learning_rate`,
    `tokens_per_second`."""

    @property
    def row(self) -> dict[str, float]:
        """All of it, for logs."""
        return self.figures | {"step": self.step, "steps": self.steps, "epoch": self.epoch}


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch to be trained: iterate over it to take its steps."""

    number: int
    """From 1."""
    _steps: Iterator[StepResult]

    def __iter__(self) -> Iterator[StepResult]:
        return self._steps


class Fit:
    """A training in progress: iterating takes its steps, one at a time.

        for step in fit:                    for epoch in fit.epochs():
            print(step.figures["loss"])         for step in epoch: ...
                                                play_dev()

    Leaving the loop early, an epoch's too, ends it there; `stop` does and keeps that for a later call. With
    `directory` the state is saved there every `checkpoint_seconds`, at the end of each of `epochs()`, and by
    `stop`; a later call with the same arguments resumes there. The weights are those of the last step
    yielded.
    """

    def __init__(
        self,
        learner: Trainee,
        examples: Sequence[Example],
        objective: Objective,
        settings: TrainingSettings,
        *,
        seed: Seed = 0,
        activation_checkpointing: bool | None = None,
        checkpoint_seconds: float = 120.0,
        objective_settings: object = None,
        directory: Path | None = None,
        optimiser: Optimiser | None = None,
    ) -> None:
        """`activation_checkpointing` None: where memory asks for it. `objective_settings`: what decides the
        loss besides the examples. `optimiser`: by default a new one.

        Raises `InputError` for a state in `directory` that is damaged, or of other examples or settings, and
        for settings that do not go with several processes.
        """
        names = ("seed", "activation_checkpointing", "checkpoint_seconds")
        given = (seed, activation_checkpointing, checkpoint_seconds)
        check_values(Fit.__init__, dict(zip(names, given, strict=True)))
        learner.weights_changed()
        model = learner.model
        self.learner, self.examples, self.objective, self.settings = learner, examples, objective, settings
        self.seed, self.directory, self.checkpoint_seconds = seed, directory, checkpoint_seconds
        self._backend: Backend | None = self._new_backend()
        self.optimiser = optimiser_of(self._backend, model, settings, optimiser)
        self._plan = _plan(examples, settings, seed)
        lanes = self._backend.concurrent
        self._tokens = settings.micro_batch_tokens or micro_batch_tokens(model)
        batches = [[examples[i].tree for i in batch] for _, batch in self._plan]
        passes = forward_passes(batches, self._tokens, lanes)
        self.memory, self.recomputes = planned_memory(
            model,
            passes,
            learner.dtype,
            activation_checkpointing,
            lanes,
            plain=self._backend.plain,
            shared=isinstance(self._backend, CoreGroupBackend),
            entropy=getattr(objective, "entropy", False),
            state_bytes=self.optimiser.weight_bytes,
        )
        """What training takes at its peak, the model included, and whether it recomputes activations."""
        decided = decisive(settings, seed) + self.optimiser.decisive
        self._training = fingerprint(examples, decided, objective_settings) if directory else ""
        algorithm = None if isinstance(self.optimiser, ShardedOptimiser) else self.optimiser.algorithm
        progress = load_state(directory, self._training, model, algorithm)
        if isinstance(self._backend, Sharded) and directory is not None and progress.step:
            self._backend.state = (directory / "state").absolute()
        self.step = progress.step
        """Steps taken so far."""
        self.stopped: str | None = self._reason() if progress.stopped else None
        """Why training was stopped before its end."""
        self._saved = time.monotonic()

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return len(self._plan)

    @property
    def tokens(self) -> int:
        """Tokens that passed the model in the steps taken so far, each trajectory's as one row."""
        taken = self._plan[: self.step]
        return sum(self.examples[i].tree.plain_tokens for _, batch in taken for i in batch)

    @property
    def done(self) -> bool:
        """Whether no step is left to take."""
        return self.stopped is not None or self.step == self.steps

    @property
    def at_epoch_end(self) -> bool:
        """Whether the step taken last was the last of its epoch, or of the training."""
        step, plan = self.step, self._plan
        return step > 0 and (self.done or plan[step][0] != plan[step - 1][0])

    def __iter__(self) -> Iterator[StepResult]:
        """Take the remaining steps."""
        with closing(self._epochs(save=False)) as epochs:
            for epoch in epochs:
                yield from epoch

    def epochs(self) -> Iterator[Epoch]:
        """The epochs that are left. If an earlier call was interrupted after an epoch's last step, that
        epoch is yielded again, without steps, so that what the caller does after an epoch is done."""
        return self._epochs(save=True)

    def stop(self, reason: str) -> None:
        """End training with the step yielded last, for later calls too."""
        self.stopped = reason
        if self.directory is not None:
            with disk_errors(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                write_atomic(self._note, reason)
            self._save()

    def _epochs(self, *, save: bool) -> Generator[Epoch, None, None]:
        ready, self._backend = self._backend or self._new_backend(), None
        if isinstance(ready, Sharded):
            ready.check_optimiser(self.optimiser)
        with ready as backend:
            backend.begin(self.learner.dtype, recompute_activations=self.recomputes)
            if save and self.at_epoch_end:
                yield Epoch(self._plan[self.step - 1][0] + 1, iter(()))
            while not self.done:
                epoch = self._plan[self.step][0]
                yield Epoch(epoch + 1, self._steps(backend, epoch, save=save))
                if not self.done and self._plan[self.step][0] == epoch:
                    return  # left early; the same epoch would come for ever

    def _new_backend(self) -> Backend:
        learner, settings = self.learner, self.settings
        if learner.distribution.on:
            check_sent(self.objective)
            return Sharded(learner, settings, self.directory)
        return backend_for(learner.model, fast_paths=learner.fast_paths, dropout=settings.dropout)

    def _steps(self, backend: Backend, epoch: int, *, save: bool) -> Iterator[StepResult]:
        warmup = warmup_steps(self.settings.warmup_ratio, self.steps)
        while not self.done and self._plan[self.step][0] == epoch:
            self.learner.weights_changed()
            # Dropout depends on the step alone, so a resumed call draws what the undisturbed one does.
            torch.manual_seed(self.seed + self.step)
            share = rate_share(self.settings.schedule, self.step, warmup, self.steps)
            figures = self._update(backend, self.settings.learning_rate * share)
            self.step += 1
            yield StepResult(self.step, self.steps, epoch + 1, figures)
            if self.stopped is None and (
                time.monotonic() - self._saved > self.checkpoint_seconds or (save and self.at_epoch_end)
            ):
                self._save()

    def _update(self, backend: Backend, rate: float) -> dict[str, float]:
        """One optimiser step at `rate`; its figures."""
        started = time.monotonic()
        batch = [self.examples[i] for i in self._plan[self.step][1]]
        figures = backend.gradients(batch, self.objective, self._tokens)
        norm = self.optimiser.step(rate, self.settings.max_grad_norm)
        backend.sync_weights()
        tokens = sum(example.tree.plain_tokens for example in batch)
        speed = tokens / (time.monotonic() - started)
        return figures | {"grad_norm": norm, "learning_rate": rate, "tokens_per_second": speed}

    def _save(self) -> None:
        if self.directory is not None:
            progress = Progress(self.step, self.stopped is not None, self._training)
            save_state(self.directory, progress, self._write)
            self._saved = time.monotonic()

    def _write(self, state: Path) -> None:
        """Weights and optimiser, by whoever has them."""
        if isinstance(self.optimiser, ShardedOptimiser):
            self.optimiser.save(state)
        else:
            write_whole(state, self.learner.model, self.optimiser.algorithm)

    @property
    def _note(self) -> Path:
        assert self.directory is not None
        return self.directory / "fired.txt"

    def _reason(self) -> str:
        return self._note.read_text(encoding="utf-8") if self._note.exists() else "stopped"


def decisive(settings: TrainingSettings, seed: int) -> tuple[object, ...]:
    """Values that decide the result; a state of training is of one such tuple."""
    names: tuple[str, ...]
    names = ("epochs", "learning_rate", "batch_size", "batch_tokens", "schedule", "warmup_ratio")
    names += ("weight_decay", "max_grad_norm", "dropout")
    return (*(getattr(settings, name) for name in names), seed)


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
