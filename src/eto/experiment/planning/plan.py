"""What a run of a recipe will take, told before it begins: from the model's config.json, the tasks and a few
experts. No weights are read and nothing is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eto.errors import EtoError
from eto.experiment.compose import expert_tasks, suite_of, tasks_of
from eto.experiment.loading import agents_left
from eto.experiment.planning.acting import SERVER, acting_of, devices_of
from eto.experiment.planning.checks import (
    Problem,
    check_disk,
    check_engine,
    check_lengths,
    check_processes,
    check_recipe,
    check_room,
    noted,
)
from eto.experiment.planning.hardware import Hardware
from eto.experiment.planning.lengths import ASSUMED, sampled_lengths
from eto.experiment.planning.memory import (
    Memory,
    Spread,
    processes_that_fit,
    training_memory,
    with_driver,
)
from eto.experiment.planning.storage import compute_bytes, storage_of
from eto.experiment.planning.work import Counts, Lengths, Pace, Work, works
from eto.experiment.recipe import Recipe
from eto.experiment.recipe_fields import learned_optimisers
from eto.methods import declared_stages
from eto.models.shape import ModelShape, config_folder, empty_model, frozen_linear, shape_of
from eto.settings import DistributedSettings, TrainingSettings
from eto.types import Task

ROOM = 0.92
"""Share of a device's memory that a plan may fill; the rest is lost between blocks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take, and what stands in its way."""

    recipe: str
    hardware: Hardware
    shape: ModelShape
    context: int
    lengths: Lengths
    counts: Counts
    memory: dict[str, Memory]
    """At its peak, of one device: training, a dev check in it, acting; or of one device of a server."""
    recomputes: bool
    batch_tokens: int
    """Tokens that pass at the same time in training."""
    fits_on: int | None
    """Fewest devices on which training fits when it is sharded; None where it does on none."""
    disk: int
    """Bytes that models and training states will take."""
    work: list[Work]
    problems: list[Problem]

    @property
    def peak(self) -> int:
        """Bytes of the device that is fullest."""
        server = self.memory[SERVER].total if SERVER in self.memory else 0
        return server + max(part.total for name, part in self.memory.items() if name != SERVER)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {
            "memory": {name: asdict(part) | {"total": part.total} for name, part in self.memory.items()},
            "peak": self.peak,
        }


def plan_run(recipe: Recipe, hardware: Hardware) -> Plan:
    """The plan of a run of `recipe` on `hardware`. What stands in its way is in `problems`.

    Raises `InputError` where the model's configuration cannot be used: without it there is no plan.
    """
    from eto.training.backends.sharded_config import counted

    problems: list[Problem] = []
    folder = config_folder(recipe.model.path)
    model = empty_model(folder, recipe.model.lora.model_dump() if recipe.model.lora else None)
    shape, context = shape_of(model), check_recipe(recipe, model, problems)
    lengths, counts = _tasks(recipe, folder, context, problems)
    compute, train = compute_bytes(recipe, hardware), recipe.train
    with suppress(EtoError):  # a file that cannot be used is among the problems already
        train = counted(train)
    training = _Training(recipe, train, hardware, model, shape, lengths, context, compute)
    trained, recomputes = training.memory()
    memory = {"training": trained} | acting_of(
        recipe, hardware, trained, shape, lengths, counts, context, compute
    )
    room = int(ROOM * hardware.memory)
    fits_on = processes_that_fit(shape, trained.activations, training.storage, room, context=hardware.context)
    stages = declared_stages(recipe.method)
    pace = _pace(recipe, train, hardware, shape, compute, recomputes)
    plan = Plan(
        recipe.name,
        hardware,
        shape,
        context,
        lengths,
        counts,
        memory,
        recomputes,
        training.tokens,
        fits_on,
        training.disk(agents_left(recipe)),
        works(stages, recipe.method, counts, lengths, pace),
        problems,
    )
    wider = fits_on if fits_on is not None and fits_on > train.processes else None
    check_room(plan.peak, room, hardware, wider, problems)
    check_engine(recipe, hardware, problems)
    check_processes(train, hardware, problems)
    check_disk(recipe, plan.disk, problems)
    return plan


def _tasks(recipe: Recipe, folder: Path, context: int, problems: list[Problem]) -> tuple[Lengths, Counts]:
    """How long the recipe's episodes are, and how many tasks there are."""
    lengths, counts = ASSUMED, Counts(0, 0, 0, 0, 0)
    with noted(problems):
        suite = suite_of(recipe)
        splits = {split: tasks_of(recipe, suite, split) for split in ("train", "dev", "test")}
        with_expert = expert_tasks(recipe, splits["train"])
        counts = _counts(recipe, splits, with_expert)
        sampled = with_expert or splits["train"]
        lengths, experts = sampled_lengths(recipe, suite, sampled, folder)
        check_lengths(recipe, suite, experts, lengths, context, problems)
    return lengths, counts


def _counts(recipe: Recipe, splits: dict[str, list[Task]], with_expert: Sequence[Task]) -> Counts:
    kinds: dict[str, int] = {}
    for task in with_expert:
        kinds[task.kind] = kinds.get(task.kind, 0) + 1
    cloned = sum(round(count * (1 - recipe.tasks.explore_unseen)) for count in kinds.values())
    return Counts(len(splits["train"]), len(with_expert), cloned, len(splits["dev"]), len(splits["test"]))


def _pace(
    recipe: Recipe,
    train: DistributedSettings,
    hardware: Hardware,
    shape: ModelShape,
    compute: int,
    recomputes: bool,
) -> Pace:
    most = 1 if hardware.is_cpu else hardware.count
    return Pace(
        parameters=shape.parameters,
        operations=hardware.operations,
        bandwidth=hardware.bandwidth,
        training_share=hardware.training_share,
        acting_share=hardware.acting_share,
        slots=recipe.rollout.slots,
        compute=compute,
        recomputes=recomputes,
        training_devices=min(train.processes, most),
        acting_devices=min(devices_of(recipe.rollout), most),
    )


class _Training:
    """What training takes, as the loop would count it with the model's weights at hand."""

    def __init__(
        self,
        recipe: Recipe,
        train: DistributedSettings,
        hardware: Hardware,
        model: Any,
        shape: ModelShape,
        lengths: Lengths,
        context: int,
        compute: int,
    ) -> None:
        from eto.cpu.core_groups import MOST
        from eto.cpu.replicas import gradient_sums
        from eto.training.backends import core_groups, single

        self._recipe, self._hardware, self._model, self._shape = recipe, hardware, model, shape
        self.storage = storage_of(recipe, shape, compute)
        self._distribution = train
        quantised = recipe.model.lora is not None and recipe.model.lora.frozen == "nf4"
        self._fast = hardware.is_cpu and recipe.model.fast_paths and not recipe.train.on and not quantised
        self._read_back = compute * max(frozen_linear(model)) if quantised else 0
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        lanes = min(MOST, cores) if self._fast else 1
        self._sums = gradient_sums(model, lanes) / gradient_sums(model, 1)
        sections = [getattr(recipe.method, name) for name in type(recipe.method).model_fields]
        given = [s.micro_batch_tokens for s in sections if isinstance(s, TrainingSettings)]
        self._entropy = any(getattr(s, "entropy_weight", 0) for s in sections)
        by_device = core_groups.MICRO_BATCH_TOKENS if self._fast else single.MICRO_BATCH_TOKENS
        self._longest = min(context, max(lengths.longest, round(lengths.tokens(lengths.own_turns))))
        widest = max((tokens or by_device for tokens in given), default=by_device)
        # Each lane passes its share of the tokens, and one row at least (`eto.training.batches.split`).
        self._rows = lanes * max(1, widest // lanes // self._longest)
        self.tokens = self._rows * self._longest

    def memory(self) -> tuple[Memory, bool]:
        """At the peak, and whether activations are recomputed: as the recipe says, or where all would not
        fit."""
        asked = self._recipe.model.activation_checkpointing
        found = self._at_peak(bool(asked))
        if asked is None and found.total > ROOM * self._hardware.memory:
            return self._at_peak(True), True
        return found, bool(asked)

    def disk(self, agents: int) -> int:
        """Bytes of the run directory's models and training states."""
        from eto.models.disk_room import LEARNED_STATE, STATE, needed_bytes

        state = LEARNED_STATE if learned_optimisers(self._recipe.method) else STATE
        return needed_bytes(4 * self._shape.parameters, 4 * self._shape.trained, agents, state)

    def _at_peak(self, recomputed: bool) -> Memory:
        given = self._distribution
        spread = Spread(given.processes, sharded=given.backend == "fsdp2", sums=self._sums)
        activations, context = self._activations(recomputed), self._hardware.context
        one = training_memory(self._shape, activations, self.storage, spread, context=context)
        if not given.on:
            return one
        drivers = 4 * self._shape.parameters  # to save and to act
        if self._hardware.is_cpu:
            return with_driver(one, drivers, given.processes)
        # With fsdp2 the driver's copy is not on a GPU (`training.learner.load_learner`).
        return one if given.backend == "fsdp2" else with_driver(one, drivers)

    def _activations(self, recomputed: bool) -> int:
        """Counted by the loop's own rule, on rows of the longest episode's tokens."""
        import numpy as np
        import torch

        from eto.tokens.prefix_tree import build_tree
        from eto.training.memory import training_memory as counted

        # Each row of another token: rows that begin alike pass what they share once.
        rows = [
            build_tree([(np.full(self._longest, number), np.zeros(self._longest, dtype=np.int64))])
            for number in range(self._rows)
        ]
        dtype = torch.float32 if self.storage.compute == 4 else torch.bfloat16
        taken = counted(
            self._model,
            rows,
            dtype,
            checkpointing=recomputed,
            plain=not self._fast,
            shared=self._fast,
            entropy=self._entropy,
        )
        return taken.activations + self._read_back
