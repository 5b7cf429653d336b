"""Bytes of training and acting, from a model's sizes. Pure arithmetic.

Of training, AdamW in mixed precision keeps for each trained parameter a master weight, a gradient and two
averages in fp32, 16 bytes, and for every parameter a copy in the type of the computation (ZeRO,
arXiv 1910.02054, section 3.1, with gradients in fp32). Sharding divides all but the copy, of which there are
then the layers under way. What autograd keeps is counted (`eto.training.memory`) and given here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from eto.models.shape import ModelShape

GATHERED = 2
"""Layers that sharded training holds whole at a time: the one at work and the next."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device, by what they hold."""

    context: int = 0
    """The process before it has a model."""
    weights: int = 0
    copy: int = 0
    """Weights in the type of the computation."""
    gradients: int = 0
    optimiser: int = 0
    activations: int = 0
    reference: int = 0
    """Log-probs of the reference; its weights are those that training begins with, and kept by none."""
    cache: int = 0
    """Keys and values of the episodes that are played at the same time."""

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of a parameter, by what is kept of it."""

    master: float = 4
    """Of a trained weight."""
    frozen: float = 4
    """Of a weight that is not trained."""
    compute: int = 2
    """Of a number in the computation; without a copy where it is that of the weights."""
    gradient: float = 4
    state: float = 8
    """What the optimiser keeps; AdamW 8, of 8 bits 2."""
    narrow: bool = False
    """Whether frozen weights are computed with as they are, without a copy."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Processes that train together."""

    processes: int = 1
    sharded: bool = False
    """Weights, gradients and optimiser divided among them (FSDP); else each has all (DDP)."""
    sums: float = 1
    """Gradients of a weight in one process, on average: its lanes share most of them."""


def training_memory(
    shape: ModelShape,
    activations: int,
    storage: Storage | None = None,
    spread: Spread | None = None,
    *,
    context: int = 0,
    reference_tokens: int = 0,
) -> Memory:
    """Of one process at the peak of a training step.

    activations: bytes that a forward pass keeps for its backward pass, its largest buffers included.
    """
    storage, spread = storage or Storage(), spread or Spread()
    share = spread.processes if spread.sharded else 1
    weights = storage.master * shape.trained + storage.frozen * shape.frozen
    whole = shape.parameters
    if share > 1:
        whole = min(whole, GATHERED * shape.layer_parameters + 2 * shape.vocabulary * shape.hidden)
    copied = share > 1 or storage.compute != storage.master
    if storage.narrow and share == 1:
        whole = shape.trained
    return Memory(
        context=context,
        weights=round(weights / share),
        copy=storage.compute * whole if copied else 0,
        gradients=round(storage.gradient * shape.trained * spread.sums / share),
        optimiser=round(storage.state * shape.trained / share),
        activations=activations,
        reference=4 * reference_tokens,
    )


def acting_memory(
    shape: ModelShape, episodes: int, tokens: int, storage: Storage | None = None, *, context: int = 0
) -> Memory:
    """Of the learner that acts in its own process: `episodes` at the same time, `tokens` long each. It acts
    with a copy where that is of another type than its weights, or has adapters merged."""
    storage = storage or Storage()
    copied = storage.compute != storage.master or shape.frozen > 0
    return Memory(
        context=context,
        weights=round(storage.master * shape.trained + storage.frozen * shape.frozen),
        copy=storage.compute * shape.parameters if copied else 0,
        cache=cache_bytes(shape, episodes * tokens, storage.compute),
    )


def server_memory(
    shape: ModelShape, episodes: int, tokens: int, compute: int = 2, *, devices: int = 1, context: int = 0
) -> Memory:
    """Of each of the `devices` of one server that plays `episodes` at the same time."""
    return Memory(
        context=context,
        weights=compute * shape.parameters // devices,
        cache=cache_bytes(shape, episodes * tokens, compute) // devices,
    )


def cache_bytes(shape: ModelShape, tokens: int, compute: int = 2) -> int:
    """Keys and values of so many tokens."""
    return compute * shape.cache_numbers * tokens


def processes_that_fit(
    shape: ModelShape,
    activations: int,
    storage: Storage,
    room: int,
    *,
    context: int = 0,
    most: int = 1024,
) -> int | None:
    """Fewest processes, a power of two, of which each fits into `room` bytes when training is sharded; None
    where none up to `most` does."""
    processes = 1
    while processes <= most:
        spread = Spread(processes, sharded=processes > 1)
        if training_memory(shape, activations, storage, spread, context=context).total <= room:
            return processes
        processes *= 2
    return None


def with_agent(training: Memory, acting: Memory) -> Memory:
    """A dev check in the midst of training: the optimiser stays, and an agent acts beside it."""
    return replace(training, activations=0, copy=training.copy + acting.copy, cache=acting.cache)


def with_driver(training: Memory, copy: int, processes: int = 1) -> Memory:
    """`processes` that train on one device, and the weights of the process that started them."""
    every = Memory(**{name: size * processes for name, size in asdict(training).items()})
    return replace(every, weights=every.weights + copy)
