"""What a run keeps of each parameter of its model, in bytes."""

from __future__ import annotations

from eto.experiment.planning.hardware import Hardware
from eto.experiment.planning.memory import Storage
from eto.experiment.recipe import Recipe
from eto.experiment.recipe_fields import learned_optimisers
from eto.models.shape import ModelShape
from eto.settings import TrainingSettings

LEARNED_BYTES = 64
"""What the learned optimiser keeps of a weight."""
EIGHT_BIT_BYTES = 2
"""What AdamW in 8 bits keeps of a weight."""


def compute_bytes(recipe: Recipe, hardware: Hardware) -> int:
    """Bytes of a number in the computation."""
    if recipe.model.dtype == "auto" and hardware.is_cpu:
        import torch

        from eto.models.dtype import compute_dtype

        return compute_dtype("auto", torch.device("cpu")).itemsize
    return 4 if recipe.model.dtype == "float32" else 2


def storage_of(recipe: Recipe, shape: ModelShape, compute: int) -> Storage:
    """What is kept of each parameter."""
    sections = [getattr(recipe.method, name) for name in type(recipe.method).model_fields]
    given = [each.optimiser for each in sections if isinstance(each, TrainingSettings)]
    kept: float = LEARNED_BYTES if learned_optimisers(recipe.method) else 8
    if given and all(each == "adamw8bit" for each in given):
        kept = EIGHT_BIT_BYTES
    if recipe.train.weights == "bfloat16":
        return Storage(2, 2, compute, 2, min(kept, 4))
    frozen = frozen_bytes(recipe, shape, compute)
    return Storage(4, frozen or 4, compute, state=kept, narrow=frozen is not None)


def frozen_bytes(recipe: Recipe, shape: ModelShape, compute: int) -> float | None:
    """Of a frozen weight on average, where they are narrow; else None."""
    kind = recipe.model.lora.frozen if recipe.model.lora else "float32"
    if kind == "float32":
        return None
    from eto.models.frozen import NF4_BYTES

    small = shape.linear if kind == "nf4" else 0
    return (NF4_BYTES * small + compute * (shape.frozen - small)) / shape.frozen
