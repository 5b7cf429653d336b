"""Settings of the model that learns."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from eto.settings.base import Conflict, Most, Settings
from eto.settings.limits import ContextLength, Count, Dtype, Names, Positive, Share


class LoraSettings(Settings):
    """Adapters in place of all weights."""

    rank: Annotated[Count, Most(65_536)] = 16
    """Rank of the adapter matrices."""
    alpha: Positive = 32.0
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapter's input, in training that keeps dropout."""
    target_modules: Names | None = None
    """Names of the modules that get an adapter; null is every linear layer."""
    frozen: Literal["float32", "bfloat16", "nf4"] = "float32"
    """Type of the weights below the adapters. bfloat16: 2 bytes each in place of 6, with `model.dtype:
    bfloat16`. nf4: 4 bits by bitsandbytes (QLoRA, arXiv 2305.14314), in one process."""


class ModelSettings(Settings):
    """Which model learns."""

    path: str = Field("embedded", min_length=1)
    """`embedded` (SmolLM2-135M-Instruct), a local directory, or a Hub id. Paper: Llama-2-7B-Chat."""
    dtype: Dtype = "auto"
    """Type of the computation; master weights are always float32. auto: bfloat16 where it is native."""
    lora: LoraSettings | None = None
    """Train adapters instead of all weights; null trains all weights, as the paper does."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass, slower and smaller; null: where memory asks for it."""
    max_context: Annotated[ContextLength | None, Most(1_000_000_000)] = None
    """Longest conversation in tokens; null takes the model's own limit. Paper: 4096."""
    chat_template: str | None = Field(None, min_length=1)
    """Path of a Jinja file, or the name of one of the tokenizer's templates; null: the tokenizer's own."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments that the template reads, such as `{enable_thinking: false}`."""
    thoughts: Literal["auto", "keep", "strip"] = "auto"
    """Thoughts in past turns. auto: as the template writes them; keep: as the agent wrote them; strip: as
    auto, and refused where the template strips nothing."""
    date: str | None = None
    """Today's date for templates that write it, as `YYYY-MM-DD`; null is 2024-07-26, always."""
    fast_paths: bool = True
    """The CPU's fast paths in training; false trains by plain autograd."""

    @field_validator("date", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        """A date, as Python users may give one, is read as its text."""
        return value.isoformat() if type(value) is datetime.date else value

    @model_validator(mode="after")
    def _frozen_goes_with_the_type(self) -> Self:
        if self.lora is not None and self.lora.frozen == "bfloat16" and self.dtype == "float32":
            raise Conflict(
                "lora.frozen: bfloat16, but dtype: float32; set {place}dtype to bfloat16, or "
                "{place}lora.frozen to float32"
            )
        return self
