"""A run's whole configuration: every value named, typed and documented; an unknown key is an error.

Defaults are the paper's values for a 7B model (ETO, arXiv 2403.02502, section 4.1) wherever the
paper states one; recipes for small models override them. A recipe is a YAML file, and any value
can be overridden as `key.path=value`.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eto.limits import (
    STRICT,
    ContextLength,
    Count,
    Discount,
    DiscountKind,
    Dtype,
    Megabytes,
    Names,
    NotNegative,
    Positive,
    PreferenceLoss,
    Schedule,
    Seed,
    Share,
    Smoothing,
    Turns,
    Whole,
    conflict,
)

_LIMITS = ("workers", "step_seconds", "episode_seconds", "reset_seconds", "memory_mb")
FREE_FIELDS = frozenset(
    {"name", "run_directory", "checkpoint_seconds"} | {f"environment.{field}" for field in _LIMITS}
)
"""Fields that may change between two starts of one run: they do not decide its results."""


class _Section(BaseModel):
    model_config = ConfigDict(**STRICT, extra="forbid", frozen=True, use_attribute_docstrings=True)

    place: ClassVar[str] = ""
    """What stands before the names of its fields where several sections have them."""

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> _Section:
        if problem := conflict(self, self.place):
            raise ValueError(problem)
        return self


class LoraRecipe(_Section):
    rank: Count = 16
    """Rank of the adapter matrices."""
    alpha: Positive = 32.0
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapter's input, in cloning; in preference training with `dpo.dropout` alone."""
    target_modules: Names | None = None
    """Names of the modules that get an adapter; null is every linear layer."""


class ModelRecipe(_Section):
    path: str = Field("embedded", min_length=1)
    """`embedded` (SmolLM2-135M-Instruct), a local directory, or a Hub id. Paper: Llama-2-7B-Chat."""
    dtype: Dtype = "auto"
    """Type of the computation; master weights are always float32. auto: bfloat16 where it is native."""
    lora: LoraRecipe | None = None
    """Train adapters instead of all weights; null trains all weights, as the paper does."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass, slower and smaller; null: where memory asks for it."""
    max_context: ContextLength | None = None
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

    @field_validator("date", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        """YAML reads an unquoted date as one."""
        return value.isoformat() if type(value) is datetime.date else value


class EnvironmentRecipe(_Section):
    name: str = Field(min_length=1)
    """The task suite, such as `scienceworld` or `webshop`; `eto environments` lists them."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the task suite: task types, simplification and the like."""
    workers: Count = 2
    """Processes that run simulators."""
    step_seconds: Positive = 30.0
    """Longest wait for the answer to one action."""
    episode_seconds: Positive = 600.0
    """Longest time the simulator may spend on one episode."""
    reset_seconds: Positive = 120.0
    """Longest wait for the start of an episode."""
    memory_mb: Megabytes | None = None
    """Most memory of one worker process and all it started, in MB; null: an equal share of the machine's."""


class TasksRecipe(_Section):
    train_per_kind: Count | None = None
    """Training tasks of each task type; null takes all."""
    dev_per_kind: Whole | None = None
    """Dev tasks of each task type; null takes all."""
    test_per_kind: Count | None = None
    """Test tasks of each task type; null takes all."""
    explore_unseen: Share = 0.0
    """Share of the training tasks kept from cloning, so that the agent also explores tasks it has
    not memorised. Paper: 0."""


class _Optimisation(_Section):
    epochs: Count = 3
    """Passes over the data. Paper: 3."""
    weight_decay: NotNegative = 0.0
    """AdamW's decoupled decay. Paper: 0."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    micro_batch_tokens: Count = 1024
    """Tokens that pass the model at the same time, shared ones once; decides memory, not the result."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_give_way(cls, given: Any) -> Any:
        """A default that another value leaves without effect is not set."""
        if not isinstance(given, dict):
            return given
        if given.get("schedule") == "constant":
            given = {"warmup_ratio": 0.0} | given
        if given.get("batch_tokens") is not None and "batch_tokens" in cls.model_fields:
            given = {"batch_size": None} | given
        return given


class SftRecipe(_Optimisation):
    place: ClassVar[str] = "sft."

    learning_rate: Positive = 1e-5
    """Peak learning rate. Paper: 1e-5."""
    batch_size: Count | None = 64
    """Trajectories of one optimiser step; null beside `batch_tokens`. Paper: 64."""
    batch_tokens: Count | None = None
    """Tokens of one optimiser step, in place of `batch_size`."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after warm-up. Paper: cosine."""
    warmup_ratio: Share = 0.03
    """Share of the steps in which the learning rate rises; 0 with `schedule: constant`. Paper: 0.03."""
    zero_reward: bool = False
    """Whether trajectories of reward 0 are cloned too. Left out, they are counted, as failed ones are."""

    @model_validator(mode="after")
    def _steps_have_a_size(self) -> SftRecipe:
        if self.batch_size is None and self.batch_tokens is None:
            raise ValueError("a step needs a size: give sft.batch_size or sft.batch_tokens")
        return self


class ExploreRecipe(_Section):
    iterations: Whole = 2
    """Rounds of explore, contrast and DPO; 0 only clones. Paper: 2 (ALFWorld 1)."""
    samples: Count = 1
    """Episodes of each training task and round. Paper: 1."""
    temperature: NotNegative = 0.0
    """Sampling temperature; 0 is greedy. Paper: 0."""
    slots: Count = 24
    """Episodes that run at the same time."""
    max_action_tokens: Count = 32
    """Longest action. Paper: 512, with written thoughts; bare actions need about 20."""


class ContrastRecipe(_Section):
    place: ClassVar[str] = "contrast."

    margin_turns: Whole | None = 5
    """Rejected is cut at the chosen's turns plus this many; null does not cut. Paper's code: 5."""
    min_gap: Share = 0.0
    """A pair needs a reward difference above this. Paper: 0."""
    both_directions: bool = True
    """An explored episode that beats the expert's becomes chosen. Paper: true."""
    per_task: Count = 1
    """Most pairs of one task and round. Paper: 1."""
    per_kind: Count | None = None
    """Most pairs of one task type and round, against lopsided pairs; null sets no bound."""
    turns: Turns = "all"
    """Turns of a pair that carry the contrast: all (paper), those from the first difference on, or
    `window` turns from the first difference on."""
    window: Count | None = None
    """Turns after the parting that carry the contrast; given with `turns: window` only."""
    discount: Discount = 1.0
    """Weight factor per turn of distance from the parting; 1 weighs all alike (paper)."""
    discount_kind: DiscountKind = "geometric"
    """How `discount` falls: as a power of the distance, or as in DMPO (arXiv 2406.14868)."""
    repeats: bool = True
    """Whether a turn that repeats an earlier one of its trajectory counts again. Paper: true."""


class DpoRecipe(_Optimisation):
    place: ClassVar[str] = "dpo."

    learning_rate: Positive = 1e-6
    """Peak learning rate. Paper: 1e-6."""
    batch_pairs: Count = 32
    """Pairs, and replayed trajectories, of one optimiser step. Paper: 32."""
    schedule: Schedule = "constant_with_warmup"
    """Course of the learning rate. Paper's code: constant_with_warmup."""
    warmup_ratio: Share = 0.1
    """Share of the steps in which the learning rate rises; 0 with `schedule: constant`. Paper's code: 0.1."""
    beta: Positive = 0.1
    """Strength of the pull to the reference. Paper: 0.1."""
    sft_weight: NotNegative = 0.0
    """Weight of the chosen's mean negative log-likelihood. Paper: 0; IPR (arXiv 2406.11176): 1 on its sum."""
    replay_weight: NotNegative = 0.0
    """Weight of the mean negative log-likelihood of expert trajectories whose tasks gave no pair, mixed
    among the pairs against forgetting what is won. Paper: 0."""
    label_smoothing: Smoothing = 0.0
    """Assumed share of pairs whose order is wrong; with `loss: sigmoid` only. Paper: 0."""
    loss: PreferenceLoss = "sigmoid"
    """sigmoid is DPO with a plain sum (paper); ipo is arXiv 2310.12036; length_normalised divides each
    log-ratio by its number of action tokens."""
    dropout: bool = False
    """Keep the dropout of model and adapters in this training too. The reference is scored without any, so
    that margins then differ from 0 before the first step."""


class GuardRecipe(_Section):
    """When preference training stops, and what goes on. The paper has none of these."""

    place: ClassVar[str] = "guard."

    dev_every_epoch: bool = True
    """Play the dev tasks after each DPO epoch and go on with the best checkpoint."""
    max_margin: Positive | None = 10.0
    """Stop when a step's mean reward margin, beta times nats, passes this; null: never."""
    max_chosen_drop: Positive | None = 20.0
    """Stop when a step's mean log-ratio of chosen falls this many nats below 0; null: never."""
    max_drift: Positive | None = None
    """Stop when a step's mean log-ratio of chosen or rejected is this many nats from 0; null: never."""
    patience: Count | None = None
    """Stop after this many dev checks in a row without a better one; null: never."""
    ship_only_if_better: bool = True
    """A round that does not beat its own starting agent on dev is reported and dropped."""


class EvaluationRecipe(_Section):
    temperature: NotNegative = 0.0
    """Sampling temperature on dev and test. Paper: 0."""
    slots: Count = 24
    """Episodes that run at the same time."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamples behind each 95% interval."""


class Recipe(_Section):
    """One experiment, complete."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    """Name of the experiment: letters, digits, dot, dash and underscore."""
    seed: Seed = 0
    """Decides choice and order of data, and all sampling."""
    run_directory: str | None = None
    """Where the run is kept; null is `runs/<name>`."""
    model: ModelRecipe = ModelRecipe()
    """Which model learns."""
    environment: EnvironmentRecipe
    """Where it acts."""
    tasks: TasksRecipe = TasksRecipe()
    """How many tasks of each task type."""
    sft: SftRecipe = SftRecipe()
    """Behavioural cloning of the expert."""
    explore: ExploreRecipe = ExploreRecipe()
    """Collecting the agent's own episodes."""
    contrast: ContrastRecipe = ContrastRecipe()
    """Making pairs of them."""
    dpo: DpoRecipe = DpoRecipe()
    """Preference training on the pairs."""
    guard: GuardRecipe = GuardRecipe()
    """Bounds on preference training."""
    evaluation: EvaluationRecipe = EvaluationRecipe()
    """Measuring the agents."""
    checkpoint_seconds: Count = 120
    """Seconds between two checkpoints within a training stage."""

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.run_directory or f"runs/{self.name}")

    @model_validator(mode="after")
    def _goes_together(self) -> Recipe:
        if self.explore.samples > 1 and self.explore.temperature == 0:
            raise ValueError("explore.samples above 1 needs explore.temperature above 0")
        needs_dev = [f for f in ("dev_every_epoch", "ship_only_if_better") if getattr(self.guard, f)]
        if self.tasks.dev_per_kind == 0 and self.explore.iterations and needs_dev:
            raise ValueError(f"guard.{needs_dev[0]} needs dev tasks, but tasks.dev_per_kind is 0")
        return self
