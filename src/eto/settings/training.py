"""Settings of training: cloning, preference training, and the guard. Defaults are the paper's for a 7B
model (ETO, arXiv 2403.02502, section 4.1) wherever it states one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from eto.settings.base import Conflict, Free, Most, Settings, Yields
from eto.settings.limits import Count, NotNegative, Portion, Positive, Share, Smoothing, Whole

Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup"]
PreferenceLoss = Literal[
    "sigmoid", "ipo", "ipo_length_normalised", "length_normalised", "robust", "dpop", "apo_zero"
]
Anchor = Literal["mean", "sum"]


def _warmup(default: float) -> Yields:
    return Yields(default, "schedule", lambda schedule: schedule == "constant", 0.0)


def _batch(default: int) -> Yields:
    return Yields(default, "batch_tokens", lambda tokens: tokens is not None, None)


_smoothing = Yields(0.0, "loss", lambda loss: loss == "robust", 0.1)
_penalty = Yields(0.0, "loss", lambda loss: loss == "dpop", 5.0)


class TrainingSettings(Settings):
    """One stage of training, whatever its loss."""

    epochs: Annotated[Count, Most(1_000_000)] = 3
    """Passes over the data. Paper: 3."""
    learning_rate: Positive = 1e-5
    """Peak learning rate. Paper: 1e-5."""
    batch_tokens: Count | None = None
    """Tokens of one optimiser step, shared ones once, in place of `batch_size`."""
    batch_size: Count | None = Field(default_factory=_batch(64))
    """Examples of one optimiser step; null with `batch_tokens`. Paper: 64."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after warm-up. Paper: cosine."""
    warmup_ratio: Share = Field(default_factory=_warmup(0.03))
    """Share of the steps in which the learning rate rises; 0 with `schedule: constant`. Paper: 0.03."""
    optimiser: Literal["adamw", "adamw8bit", "learned"] = "adamw"
    """adamw8bit is bitsandbytes', which keeps 2 bytes of a weight, AdamW 8. learned is Optim4RL
    (arXiv 2302.01470), for adapters (`model.lora`) only; it keeps 64."""
    optimiser_file: str | None = Field(None, min_length=1)
    """The learned optimiser's numbers, as `python -m eto.training.meta_training` writes them; null: those
    that come with the package."""
    weight_decay: NotNegative = 0.0
    """AdamW's decoupled decay. Paper: 0."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    micro_batch_tokens: Annotated[Count | None, Free()] = None
    """Tokens that pass the model at the same time, shared ones once; decides memory, not the result.
    Null: by device."""
    dropout: bool = True
    """Keep the dropout that model and adapters have."""

    @model_validator(mode="after")
    def _steps_go_together(self) -> Self:
        if self.schedule == "constant" and self.warmup_ratio:
            raise Conflict(
                "schedule: constant has no warm-up; set {place}warmup_ratio to 0, or use constant_with_warmup"
            )
        if self.optimiser_file is not None and self.optimiser != "learned":
            raise Conflict("optimiser_file has no effect with AdamW; set {place}optimiser to learned")
        if self.weight_decay and self.optimiser == "learned":
            raise Conflict(
                "weight_decay is AdamW's; set {place}weight_decay to 0, or {place}optimiser to adamw"
            )
        if self.batch_size is not None and self.batch_tokens is not None:
            raise Conflict(
                "batch_size and batch_tokens are both given; set {place}batch_size or the other to null"
            )
        if self.batch_size is None and self.batch_tokens is None:
            raise Conflict("a step needs a size: give {place}batch_size or {place}batch_tokens")
        return self


class SftSettings(TrainingSettings):
    """Behavioural cloning: supervised fine-tuning on the expert's actions."""

    observation_weight: NotNegative = 0.0
    """Weight of a token of the environment's observations in the loss, beside 1 for a token of the agent's
    (Early Experience, arXiv 2510.08558). Paper: 0."""
    zero_reward: bool = False
    """Whether trajectories of reward 0 are cloned too. Left out, they are counted, as failed ones are."""


class DpoSettings(TrainingSettings):
    """Preference training on pairs of trajectories."""

    learning_rate: Positive = 1e-6
    """Peak learning rate. Paper: 1e-6."""
    batch_size: Count | None = Field(default_factory=_batch(32))
    """Pairs, and rehearsed trajectories, of one optimiser step; null with `batch_tokens`. Paper: 32."""
    schedule: Schedule = "constant_with_warmup"
    """Course of the learning rate. Paper's code: constant_with_warmup."""
    warmup_ratio: Share = Field(default_factory=_warmup(0.1))
    """Share of the steps in which the learning rate rises; 0 with `schedule: constant`. Paper's code: 0.1."""
    dropout: bool = False
    """Keep the dropout of model and adapters in this training too. The reference is scored without any, so
    that margins then differ from 0 before the first step."""
    beta: Positive = 0.1
    """Strength of the pull to the reference. Paper: 0.1."""
    loss: PreferenceLoss = "sigmoid"
    """sigmoid is DPO with a plain sum (paper); ipo is arXiv 2310.12036; length_normalised divides each
    log-ratio by its number of action tokens, ipo_length_normalised IPO's; robust is arXiv 2403.00409;
    dpop is DPO-Positive (arXiv 2402.13228); apo_zero is arXiv 2408.06266."""
    label_smoothing: Smoothing = Field(default_factory=_smoothing)
    """Assumed share of pairs whose order is wrong; with `loss: sigmoid` (conservative DPO) or `robust` only.
    Paper: 0; 0.1 with `loss: robust`."""
    dpop_penalty: NotNegative = Field(default_factory=_penalty)
    """Weight of what chosen loses, with `loss: dpop` only. Its paper: 50; 5 here, as in its smaller runs."""
    sft_weight: NotNegative = 0.0
    """Weight of the chosen's negative log-likelihood, the anchor. Paper: 0; IPR (arXiv 2406.11176): 1 on its
    sum."""
    anchor: Anchor = "mean"
    """The anchor's unit: the mean over the chosen's tokens, or their sum, which is the unit of the pull. DPO
    pulls with beta / 2 a token at the start; a mean over N tokens holds with `sft_weight` / N, a sum with
    `sft_weight`. With `sft_weight` only."""
    rehearsal_weight: NotNegative = 0.0
    """Weight of the mean negative log-likelihood of expert trajectories whose tasks gave no pair, mixed
    among the pairs against forgetting what is won. Paper: 0."""
    observation_weight: NotNegative = 0.0
    """Weight of the mean negative log-likelihood of what the environment answered to both sides of a pair,
    shared answers once (as in Early Experience, arXiv 2510.08558, here beside the preference). Paper: 0."""

    @model_validator(mode="after")
    def _options_go_with_the_loss(self) -> Self:
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise Conflict(
                f"label_smoothing has no meaning with loss: {self.loss}; set {{place}}label_smoothing to 0"
            )
        if self.loss == "robust" and not self.label_smoothing:
            raise Conflict(
                "loss: robust with label_smoothing 0 is sigmoid; set {place}label_smoothing above 0"
            )
        if self.dpop_penalty and self.loss != "dpop":
            raise Conflict(
                f"dpop_penalty has no meaning with loss: {self.loss}; set {{place}}dpop_penalty to 0"
            )
        if self.anchor == "sum" and not self.sft_weight:
            raise Conflict("anchor: sum has no effect without an anchor; set {place}sft_weight above 0")
        return self


class KtoSettings(TrainingSettings):
    """Preference training without pairs (KTO, arXiv 2402.01306)."""

    epochs: Annotated[Count, Most(1_000_000)] = 1
    """Passes over the data. Paper: 1."""
    learning_rate: Positive = 1e-6
    """Peak learning rate. Paper: 5e-7 to 5e-6."""
    batch_size: Count | None = Field(default_factory=_batch(32))
    """Trajectories of one optimiser step; null with `batch_tokens`. Paper: 32 and more."""
    dropout: bool = False
    """Keep the dropout of model and adapters. The reference is scored without any."""
    beta: Positive = 0.1
    """How far a log-ratio may move before it counts little. Paper: 0.1."""
    desirable_weight: Positive = 1.0
    """Weight of a desirable trajectory. Paper: 1; more where they are the fewer."""
    undesirable_weight: Positive = 1.0
    """Weight of an undesirable trajectory. Paper: 1; more where they are the fewer."""
    kl_samples: Whole = 0
    """Trajectories under prompts of other tasks from which the reference point is estimated before each step,
    each a forward pass; 0 leaves it at 0. Paper: the batch's."""


class GuardSettings(Settings):
    """When preference training stops, and which checkpoint continues. The paper has none of these."""

    bounds: ClassVar = ("max_margin", "max_chosen_drop", "max_chosen_drop_per_token", "max_drift")
    """Fields that a step's figures are checked against; the others concern dev checks."""
    of_dev: ClassVar = ("max_repeated", "max_malformed", "max_verb_share", "min_action_entropy")
    """Fields that the actions of a dev check are checked against."""

    max_margin: Positive | None = 10.0
    """Stop when a step's mean reward margin, beta times nats, passes this; null: never."""
    max_chosen_drop: Positive | None = 20.0
    """Stop when a step's mean log-ratio of chosen falls this many nats below 0; null: never."""
    max_chosen_drop_per_token: Positive | None = None
    """Stop when chosen loses, on average, this many nats a token of the contrast; null: never. 0.2 fires
    long before 20 nats over some thirty tokens do."""
    max_drift: Positive | None = None
    """Stop when a step's mean log-ratio of chosen or rejected is this many nats from 0; null: never."""
    dev_every_epoch: bool = True
    """Play the dev tasks after each DPO epoch and continue with the best checkpoint."""
    dev_every_steps: Count | None = None
    """Play them after every so many optimiser steps within an epoch too; null: only at epochs' ends."""
    patience: Count | None = None
    """Stop after this many dev checks in a row without a better one; null: never."""
    max_repeated: Portion | None = None
    """Stop when a larger share of a dev check's actions repeats one of its episode; null: never."""
    max_malformed: Portion | None = None
    """Stop when a larger share of a dev check's actions is empty, cut off or broken text; null: never."""
    max_verb_share: Portion | None = None
    """Stop when a larger share of a dev check's actions begins with one and the same word; null: never."""
    min_action_entropy: Positive | None = None
    """Stop when the entropy of a dev check's actions, in nats, is below this; null: never."""
    ship_only_if_better: bool = True
    """A round that does not beat its own starting agent on dev is reported and dropped."""

    @model_validator(mode="after")
    def _checks_are_made(self) -> Self:
        if self.patience is not None and not self.dev_every_epoch:
            raise Conflict("{place}patience counts dev checks: it needs {place}dev_every_epoch")
        for name in ("dev_every_steps", *self.of_dev):
            if getattr(self, name) is not None and not self.dev_every_epoch:
                raise Conflict(f"{{place}}{name} concerns dev checks: it needs {{place}}dev_every_epoch")
        return self
