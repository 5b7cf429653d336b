"""Weights and optimiser on disk, of one process or of many.

One process writes `trained.safetensors` and `moments.safetensors`; several write `shards`, each its own
(torch's distributed checkpoints). Either is read by any number of processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SHARDS = "shards"
_WEIGHTS, _MOMENTS = "weights/", "moments/"


def write_whole(state: Path, model: Any, optimiser: torch.optim.Optimizer) -> None:
    """Weights that are trained, and the optimiser's state, of one process."""
    trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, state / "trained.safetensors")
    optimiser_state = {
        f"{number}.{name}": value.contiguous()
        for number, (_, weight) in enumerate(_trained(model))
        for name, value in _kept(optimiser, weight)
    }
    save_file(optimiser_state, state / "moments.safetensors")


def write_shards(state: Path, model: Any, optimiser: torch.optim.Optimizer) -> None:
    """The same of several processes, all of which call it: each writes what it holds."""
    from torch.distributed.checkpoint.state_dict_saver import save

    found: dict[str, Any] = {f"{_WEIGHTS}{name}": weight.detach() for name, weight in _trained(model)}
    for name, weight in _trained(model):
        for key, value in _kept(optimiser, weight):
            found[f"{_MOMENTS}{name}/{key}"] = value
    save(found, checkpoint_id=state / SHARDS)


def read_weights(state: Path, model: Any) -> None:
    """Take the weights into `model`, which is whole."""
    parameters = dict(model.named_parameters())
    if (state / SHARDS).exists():
        kept = {name: torch.empty_like(weight) for name, weight in _trained(model)}
        _load(state, {f"{_WEIGHTS}{name}": value for name, value in kept.items()})
    else:
        kept = load_file(state / "trained.safetensors")
    with torch.no_grad():
        for key, value in kept.items():
            parameters[key].copy_(value)


def read_moments(state: Path, model: Any, optimiser: torch.optim.Optimizer) -> None:
    """Take the optimiser's state into `optimiser` of `model`, whole or divided."""
    weights = dict(_trained(model))
    if (state / SHARDS).exists():
        asked = {key: _like(weights, key, found) for key, found in _moments(state)}
        _load(state, asked)
        kept = {key.removeprefix(_MOMENTS): value for key, value in asked.items()}
    else:
        names = list(weights)
        kept = {}
        for key, value in load_file(state / "moments.safetensors").items():
            number, _, part = key.partition(".")
            name = names[int(number)]
            kept[f"{name}/{part}"] = _divided_like(value, weights[name])
    by_number: dict[int, dict[str, Any]] = {}
    numbers = {name: number for number, name in enumerate(weights)}
    for key, value in kept.items():
        name, _, part = key.rpartition("/")
        # Counts that an optimiser keeps as whole numbers are written as tensors.
        count = value.dtype == torch.int64 and not value.ndim
        by_number.setdefault(numbers[name], {})[part] = int(value) if count else value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": by_number})


def whole(tensor: Any) -> Tensor:
    """A tensor, gathered where it is divided over the ranks, all of which call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _trained(model: Any) -> Iterator[tuple[str, Any]]:
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


def _kept(optimiser: torch.optim.Optimizer, weight: Any) -> Iterator[tuple[str, Tensor]]:
    """What `optimiser` keeps of `weight`, by name."""
    for name, value in optimiser.state.get(weight, {}).items():
        if not isinstance(value, Tensor):
            yield name, torch.tensor(value)
        else:  # tables may be shared between weights, which files of safetensors refuse
            yield name, value.detach() if value.shape == weight.shape else value.detach().clone()


def _moments(state: Path) -> list[tuple[str, Any]]:
    """(key, what the file says of its tensor) of the optimiser's state."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    kept = FileSystemReader(state / SHARDS).read_metadata().state_dict_metadata
    return [(key, found) for key, found in kept.items() if key.startswith(_MOMENTS)]


def _like(weights: dict[str, Any], key: str, found: Any) -> Tensor:
    """An empty tensor for what is kept as `key`, divided as its weight is where it has the weight's shape."""
    weight = weights[key.removeprefix(_MOMENTS).rpartition("/")[0]]
    if tuple(found.size) == tuple(weight.shape):
        return torch.zeros_like(weight.detach(), dtype=found.properties.dtype)
    return torch.zeros(found.size, dtype=found.properties.dtype)


def _divided_like(value: Tensor, weight: Any) -> Tensor:
    if not hasattr(weight, "placements") or value.shape != weight.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


def _load(state: Path, asked: dict[str, Any]) -> None:
    """Raises `ValueError` for shards that are damaged or lack something."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it loads in one process
        try:
            load(asked, checkpoint_id=state / SHARDS)
        except CheckpointException as error:  # no `Exception`
            raise ValueError(" ".join(str(error).split())[:300]) from error
