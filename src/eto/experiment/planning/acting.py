"""What acting takes, by where it is done."""

from __future__ import annotations

from eto.experiment.planning.hardware import Hardware
from eto.experiment.planning.memory import (
    Memory,
    Storage,
    acting_memory,
    server_memory,
    with_agent,
    with_driver,
)
from eto.experiment.planning.storage import frozen_bytes
from eto.experiment.planning.work import Counts, Lengths
from eto.experiment.recipe import Recipe
from eto.methods import declared_stages
from eto.models.shape import ModelShape
from eto.settings import RaySettings, RolloutSettings, VllmSettings

DEV, SERVER = "dev check", "server"


def devices_of(rollout: RolloutSettings) -> int:
    """How many devices act."""
    if rollout.engine == "vllm":
        vllm = rollout.vllm or VllmSettings()
        return vllm.replicas * vllm.devices_each
    if rollout.engine == "ray":
        ray = rollout.ray or RaySettings()
        return max(1, int(ray.replicas * ray.gpus_each))
    return 1


def acting_of(
    recipe: Recipe,
    hardware: Hardware,
    training: Memory,
    shape: ModelShape,
    lengths: Lengths,
    counts: Counts,
    context: int,
    compute: int,
) -> dict[str, Memory]:
    """Of the learner that acts, or of the servers and replicas on the learner's device: the first one takes
    the first device. Of servers and clusters elsewhere nothing is known here."""
    slots, longest = recipe.rollout.slots, min(context, round(lengths.tokens(lengths.most_turns)))
    if recipe.rollout.engine == "in_process":
        storage = Storage(frozen=frozen_bytes(recipe, shape, compute) or 4, compute=compute)
        acting = acting_memory(shape, slots, longest, storage, context=hardware.context)
        checked = any("*" in phase.name for each in declared_stages(recipe.method) for phase in each.phases)
        if checked and counts.dev:
            return {DEV: with_agent(training, acting), "acting": acting}
        return {"acting": acting}
    replicas, devices, here = _beside(recipe.rollout, hardware)
    if not here:
        return {}
    each = -(-slots // replicas)
    one = server_memory(shape, each, longest, compute, devices=devices, context=hardware.context)
    return {SERVER: with_driver(one, 0, here)}


def _beside(rollout: RolloutSettings, hardware: Hardware) -> tuple[int, int, int]:
    """How many servers or replicas there are, on how many devices each, and how many of them on the
    learner's device."""
    if rollout.engine == "vllm":
        vllm = rollout.vllm or VllmSettings()
        return vllm.replicas, vllm.devices_each, vllm.replicas if hardware.is_cpu else 1
    ray = rollout.ray or RaySettings()
    if rollout.engine != "ray" or ray.engine == "server" or ray.address is not None:
        return 1, 1, 0
    if hardware.is_cpu:
        return ray.replicas, 1, ray.replicas
    on_first = min(ray.replicas, max(1, int(1 / ray.gpus_each))) if ray.gpus_each else 0
    return ray.replicas, max(1, int(ray.gpus_each)), on_first
