"""Settings of training in several processes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from eto.settings.base import Conflict, Free, Most, Settings, Yields
from eto.settings.limits import Count, Positive
from eto.settings.training import TrainingSettings

_backend = Yields("single", "processes", lambda count: count > 1, "ddp")


class DistributedSettings(Settings):
    """How many processes train, and what each of them holds."""

    processes: Annotated[Count, Most(1024), Free()] = 1
    """Processes of a training stage; on GPUs one each. Rollouts, results and the run stay with one."""
    backend: Annotated[Literal["single", "ddp", "fsdp2"], Free()] = Field(default_factory=_backend)
    """single: in this process. ddp: each process holds the whole model. fsdp2: each holds its share of
    weights, gradients and optimiser. With several processes: ddp."""
    accelerate_config: Annotated[str | None, Free()] = Field(None, min_length=1)
    """File of `accelerate config` that says how the processes are launched, and how many; null: torchrun
    launches them."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights that the optimiser updates; bfloat16 halves weights, gradients and averages, and
    rounds small updates away. With ddp and fsdp2 only."""
    offload: Annotated[bool, Free()] = False
    """Keep weights, gradients and the optimiser in the machine's memory, and on the GPU what is computed
    with; slower. With fsdp2 only."""
    start_seconds: Annotated[Positive, Most(86_400), Free()] = 600.0
    """Longest wait for the processes to be ready."""

    @property
    def on(self) -> bool:
        """Whether processes are launched at all."""
        return self.backend != "single"

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.backend == "single":
            if self.processes > 1:
                raise Conflict(
                    "backend: single is one process; set {place}processes to 1, or {place}backend to ddp or "
                    "fsdp2"
                )
            for name in ("accelerate_config", "offload"):
                if getattr(self, name):
                    raise Conflict(f"{name} has no effect in one process; set {{place}}backend to fsdp2")
            if self.weights != "float32":
                raise Conflict(
                    "weights: bfloat16 has no effect in one process; set {place}backend to ddp or fsdp2"
                )
        if self.offload and self.backend != "fsdp2":
            raise Conflict("offload is fsdp2's; set {place}offload to false, or {place}backend to fsdp2")
        return self


QUANTISED = (
    "weights in 4 bits are trained in one process (model.lora.frozen: nf4)",
    "backend",
    "set it to single, or model.lora.frozen to bfloat16",
)
"""As `unfit`, of a model whose frozen weights are in 4 bits."""


def unfit(distribution: DistributedSettings, training: TrainingSettings) -> tuple[str, str, str] | None:
    """Why a training does not go with several processes: the problem, the field of `DistributedSettings`,
    and what to do; None where it does."""
    count, batch = distribution.processes, training.batch_size
    if batch is not None and batch < count:
        problem = f"{count} processes, but steps of {batch} examples: some processes would have none"
        return problem, "processes", f"set it to {batch} or less, or batch_size to {count} or more"
    if distribution.backend == "fsdp2" and training.optimiser != "adamw":
        problem = f"optimiser: {training.optimiser} does not update weights that are divided over processes"
        return problem, "backend", "set it to ddp, or optimiser to adamw"
    return None
