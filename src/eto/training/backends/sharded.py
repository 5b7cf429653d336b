"""Training in several processes, as the loop sees it: gradients, updates and states of all of them.

This process keeps the run, plays and decides; the ranks hold weights, gradients and the optimiser. Weights
come back when somebody reads the learner's model, and not before.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file

from eto.data.files import disk_errors
from eto.errors import InputError
from eto.models.frozen import is_quantised
from eto.settings import DistributedSettings, TrainingSettings
from eto.settings.distributed import QUANTISED, unfit
from eto.tokens.prefix_tree import Tree
from eto.training.backends.base import Backend
from eto.training.backends.sharded_config import counted
from eto.training.backends.sharded_launch import Processes
from eto.training.batches import split
from eto.training.example import Example, Objective, mean_figures
from eto.training.optimiser import Optimiser, check_adapters, check_installed, state_bytes

ON_THE_WAY = "weights-"
"""Begins the name of the folder in which weights go to and fro."""


class Owner(Protocol):
    """Whose model is trained; `eto.training.learner.Learner`."""

    model: Any
    dtype: torch.dtype
    fast_paths: bool
    distribution: DistributedSettings

    def weights_elsewhere(self, fetch: Callable[[], None]) -> None:
        """`fetch` brings the model its weights; to be called before anybody reads it."""


class Sharded:
    """The backend of several processes; they live until it is left."""

    concurrent = 1

    def __init__(self, owner: Owner, settings: TrainingSettings, place: Path | None) -> None:
        """`place`: a directory that all ranks read, for the model on its way; by default a temporary one.

        Raises `InputError` for settings that do not go with several processes.
        """
        check_distributed(owner.distribution, settings, owner.model)
        self._owner, self._distribution, self._settings = owner, owner.distribution, settings
        self._place = place
        self.optimiser = ShardedOptimiser(self, settings)
        self.state: Path | None = None
        """Where the moments lie that the ranks go on with."""
        self._folder: Path | None = None
        self._processes: Processes | None = None
        self._fresh = True
        """Whether this process has the weights as they are."""

    @property
    def plain(self) -> bool:
        """The passes written for trees take one type throughout: under autocast torch's own run."""
        weights = getattr(torch, self._distribution.weights)
        autocast = self._distribution.backend == "ddp" and self._owner.dtype != weights
        return autocast or not self._owner.fast_paths

    def begin(self, dtype: torch.dtype, *, recompute_activations: bool = False) -> None:
        """Launch the processes and give them the model, and the moments of `state` if that is set."""
        log = self._place / "processes.log" if self._place else None
        place, distribution = self._place, self._distribution
        with disk_errors(place or Path(tempfile.gettempdir())):
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
                for left in place.glob(f"{ON_THE_WAY}*"):  # by a driver that was killed
                    shutil.rmtree(left, ignore_errors=True)
            self._folder = Path(tempfile.mkdtemp(prefix=ON_THE_WAY, dir=place))
            model = self._folder / "model.pt"
            torch.save(self._owner.model, model)
        self._processes = Processes(distribution, log)
        self._processes.ask(
            "begin",
            model=model,
            backend=distribution.backend,
            dtype=dtype,
            weights=getattr(torch, distribution.weights),
            settings=self._settings,
            plain=self.plain,
            dropout=self._settings.dropout,
            recompute=recompute_activations,
            offload=distribution.offload,
            state=self.state,
        )
        model.unlink()

    def gradients(self, batch: Sequence[Example], objective: Objective, tokens: int) -> dict[str, float]:
        """Leave the gradient of the mean loss over `batch` in the ranks; returns the mean figures.

        tokens: tree tokens that pass at the same time on each rank. Raises what `Processes.ask` raises.
        """
        parts = divided(batch, tokens, self._running.count)
        total = sum(example.size for example in batch)
        seed = torch.initial_seed() % 2**62
        answers = self._running.ask("gradients", parts, objective=objective, total=total, seed=seed)
        return mean_figures([row for rows in answers for row in rows])

    def score(self, trees: Sequence[Tree], tokens: int, *, values: bool) -> list[list[np.ndarray]]:
        """For each leaf of each tree `[agent tokens]` log-probs, or values, without gradients."""
        count = self._running.count
        groups = split(trees, tokens * count, count)
        most = max(map(len, groups))
        groups += [[] for _ in range(count - len(groups))]
        filling = [min(trees, key=len)]
        parts = [
            {"passes": [[trees[i] for i in group] for group in own] + [filling] * (most - len(own))}
            for own in groups
        ]
        scored: dict[int, list[np.ndarray]] = {}
        for own, found in zip(groups, self._running.ask("score", parts, values=values), strict=True):
            numbers = [number for group in own for number in group]
            scored |= zip(numbers, found[: len(numbers)], strict=True)
        return [scored[number] for number in range(len(trees))]

    def step(self, rate: float, max_grad_norm: float) -> float:
        """Update the weights at learning rate `rate`; returns the gradient's norm before clipping."""
        return self._running.ask("step", rate=rate, max_grad_norm=max_grad_norm)[0]

    def sync_weights(self) -> None:
        """The learner's model is behind from now on, until it is read."""
        self._fresh = False
        self._owner.weights_elsewhere(self.fetch)

    def fetch(self) -> None:
        """Bring this process the weights as the ranks have them."""
        if self._fresh or self._processes is None:
            return
        self._fresh = True
        found = self._brought("written")
        weights = dict(self._owner.model.named_parameters())
        with torch.no_grad():
            for name, value in found.items():
                weights[name].copy_(value)

    def gathered_gradients(self) -> dict[str, torch.Tensor]:
        """By name the gradients that the ranks have, in fp32; for comparing backends."""
        return self._brought("gradient")

    def check_optimiser(self, optimiser: object) -> None:
        """Raises `InputError` where `optimiser` is of processes that have ended."""
        if optimiser is not self.optimiser:
            raise InputError(
                "a training in several processes was left before its end; its optimiser is gone",
                where="fit",
                hint="give it a directory, and make it again with the same arguments to go on",
            )

    def save(self, directory: Path) -> None:
        """Have each rank write its share of weights and optimiser to `directory`."""
        self._running.ask("save", directory=directory.absolute())

    def _brought(self, command: str) -> dict[str, torch.Tensor]:
        assert self._folder is not None
        path = self._folder / f"{command}.safetensors"
        with disk_errors(path):
            self._running.ask(command, path=path)
            found = load_file(path)
            path.unlink()
        return found

    @property
    def _running(self) -> Processes:
        if self._processes is None:
            raise RuntimeError("gradients before begin")
        return self._processes

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        try:
            if self._processes is not None:
                left_early = kind is None or issubclass(kind, GeneratorExit)
                if left_early and self._processes.alive:
                    self.fetch()
                    self._processes.end()
                else:
                    self._processes.kill()
        finally:
            self._processes = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


class ShardedOptimiser:
    """Stands for the optimiser that the ranks have."""

    decisive: tuple[object, ...] = ()

    def __init__(self, backend: Sharded, settings: TrainingSettings) -> None:
        self._backend = backend
        self.weight_bytes = state_bytes(settings)

    def step(self, rate: float, max_grad_norm: float) -> float:
        """As `Optimiser.step`."""
        return self._backend.step(rate, max_grad_norm)

    def save(self, directory: Path) -> None:
        """Write weights and optimiser to `directory`."""
        self._backend.save(directory)


def optimiser_of(
    backend: Backend, model: Any, settings: TrainingSettings, given: Optimiser | None
) -> Optimiser | ShardedOptimiser:
    """The optimiser that goes with `backend`: `given`, or a new one. Raises `InputError` where `given` does
    not go with it."""
    if not isinstance(backend, Sharded):
        optimiser = given or Optimiser(model, settings)
        optimiser.check_trains(model)
        return optimiser
    if given is not None:
        raise InputError(
            "an optimiser that outlives a training stays in this process",
            where="fit: optimiser",
            hint="leave it out, or train in one process (train.backend: single)",
        )
    return backend.optimiser


def divided(batch: Sequence[Example], tokens: int, ranks: int) -> list[dict[str, Any]]:
    """For each rank its `passes` over the batch, of `tokens` at most each, and how many are `counted`.

    Ranks get about equal numbers of tokens, neighbours that begin alike together, and equally many passes:
    where one has fewer, a short example that is not counted fills the rest.
    """
    groups = split([example.tree for example in batch], tokens * ranks, ranks)
    most = max(map(len, groups))
    filling = min(batch, key=lambda example: len(example.tree))
    parts = []
    for rank in range(ranks):
        own = [[batch[i] for i in group] for group in (groups[rank] if rank < len(groups) else ())]
        parts.append({"passes": own + [[filling]] * (most - len(own)), "counted": len(own)})
    return parts


def scored_by_ranks(
    owner: Owner, trees: Sequence[Tree], tokens: int, *, values: bool = False
) -> list[list[np.ndarray]]:
    """As `eto.training.backends.core_groups.grouped_log_probs`, by processes launched for it.

    tokens: tree tokens that pass at the same time on each rank."""
    settings = TrainingSettings(batch_tokens=tokens)
    ranks = Sharded(owner, settings, None)
    with ranks:
        ranks.begin(owner.dtype)
        return ranks.score(trees, tokens, values=values)


def check_distributed(distribution: DistributedSettings, settings: TrainingSettings, model: Any) -> None:
    """Raises `InputError` for settings of a training that do not go with several processes, and what
    `launched_by` raises."""
    problem = QUANTISED if is_quantised(model) else unfit(counted(distribution), settings)
    if problem:
        raise InputError(problem[0], where=f"train.{problem[1]}", hint=problem[2])
    check_installed(settings)
    if settings.optimiser == "learned":
        check_adapters(model)


def check_sent(objective: Objective) -> None:
    """Raises `InputError` for an objective that cannot be sent to other processes."""
    try:
        pickle.dumps(objective)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the loss cannot be sent to other processes: {' '.join(str(error).split())[:200]}",
            where="train.processes",
            hint="make it of a function or class at the top level of a module",
        ) from error
