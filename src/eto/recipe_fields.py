"""A run's whole configuration: every value named, typed and documented; an unknown key is an error.

Defaults are the paper's values for a 7B model (ETO, arXiv 2403.02502, section 4.1) wherever the
paper states one; recipes for small models override them. A recipe is a YAML file, and any value
can be overridden as `key.path=value`.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup"]

_LIMITS = ("workers", "step_seconds", "episode_seconds", "reset_seconds", "memory_mb")
FREE_FIELDS = frozenset(
    {"name", "run_directory", "checkpoint_seconds"} | {f"environment.{field}" for field in _LIMITS}
)
"""Fields that may change between two starts of one run: they do not decide its results."""

MOST: dict[str, float] = {
    "checkpoint_seconds": 31_536_000,
    "model.lora.rank": 65_536,
    "model.max_context": 1_000_000_000,
    "environment.workers": 1024,
    "environment.step_seconds": 2_592_000,
    "environment.episode_seconds": 2_592_000,
    "environment.reset_seconds": 2_592_000,
    "environment.memory_mb": 1_000_000_000,
    "sft.epochs": 1_000_000,
    "dpo.epochs": 1_000_000,
    "explore.iterations": 1000,
    "explore.samples": 10_000,
    "explore.slots": 10_000,
    "explore.temperature": 100,
    "explore.max_action_tokens": 1_000_000,
    "evaluation.slots": 10_000,
    "evaluation.temperature": 100,
    "evaluation.bootstrap_resamples": 1_000_000,
}
"""Field -> its largest value; a larger one is a slip that would fill the memory or never end."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class LoraRecipe(_Section):
    rank: int = Field(16, ge=1)
    """Rank of the adapter matrices."""
    alpha: float = Field(32.0, gt=0)
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: list[str] | None = None
    """Names of the modules that get an adapter; null is every linear layer."""


class ModelRecipe(_Section):
    path: str = Field("embedded", min_length=1)
    """`embedded` (SmolLM2-135M-Instruct), a local directory, or a Hub id. Paper: Llama-2-7B-Chat."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the computation; master weights are always float32. auto: bfloat16 where it is native."""
    lora: LoraRecipe | None = None
    """Train adapters instead of all weights; null trains all weights, as the paper does."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass, slower and smaller; null: where memory asks for it."""
    max_context: int | None = Field(None, ge=64)
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
    workers: int = Field(2, ge=1)
    """Processes that run simulators."""
    step_seconds: float = Field(30.0, gt=0)
    """Longest wait for the answer to one action."""
    episode_seconds: float = Field(600.0, gt=0)
    """Longest time the simulator may spend on one episode."""
    reset_seconds: float = Field(120.0, gt=0)
    """Longest wait for the start of an episode."""
    memory_mb: int | None = Field(None, ge=64)
    """Most memory of one worker process and all it started, in MB; null: an equal share of the machine's."""


class TasksRecipe(_Section):
    train_per_kind: int | None = Field(None, ge=1)
    """Training tasks of each task type; null takes all."""
    dev_per_kind: int | None = Field(None, ge=0)
    """Dev tasks of each task type; null takes all."""
    test_per_kind: int | None = Field(None, ge=1)
    """Test tasks of each task type; null takes all."""
    explore_unseen: float = Field(0.0, ge=0, lt=1)
    """Share of the training tasks kept from cloning, so that the agent also explores tasks it has
    not memorised. Paper: 0."""


class _Optimisation(_Section):
    epochs: int = Field(3, ge=1)
    """Passes over the data. Paper: 3."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled decay. Paper: 0."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    micro_batch_tokens: int = Field(1024, ge=1)
    """Tokens that pass the model at the same time, shared ones once; decides memory, not the result."""


class SftRecipe(_Optimisation):
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate. Paper: 1e-5."""
    batch_size: int = Field(64, ge=1)
    """Trajectories of one optimiser step. Paper: 64."""
    batch_tokens: int | None = Field(None, ge=1)
    """Tokens of one optimiser step; when given it replaces `batch_size`."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after warm-up. Paper: cosine."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises to its peak. Paper: 0.03."""
    zero_reward: bool = False
    """Whether trajectories of reward 0 are cloned too. Left out, they are counted, as failed ones are."""


class ExploreRecipe(_Section):
    iterations: int = Field(2, ge=0)
    """Rounds of explore, contrast and DPO; 0 only clones. Paper: 2 (ALFWorld 1)."""
    samples: int = Field(1, ge=1)
    """Episodes of each training task and round. Paper: 1."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature; 0 is greedy. Paper: 0."""
    slots: int = Field(24, ge=1)
    """Episodes that run at the same time."""
    max_action_tokens: int = Field(32, ge=1)
    """Longest action. Paper: 512, with written thoughts; bare actions need about 20."""


class ContrastRecipe(_Section):
    margin_turns: int | None = Field(5, ge=0)
    """Rejected is cut at the chosen's turns plus this many; null does not cut. Paper's code: 5."""
    min_gap: float = Field(0.0, ge=0, lt=1)
    """A pair needs a reward difference above this. Paper: 0."""
    both_directions: bool = True
    """An explored episode that beats the expert's becomes chosen. Paper: true."""
    per_task: int = Field(1, ge=1)
    """Most pairs of one task and round. Paper: 1."""
    per_kind: int | None = Field(None, ge=1)
    """Most pairs of one task type and round, against lopsided pairs; null sets no bound."""
    turns: Literal["all", "from_parting", "window"] = "all"
    """Turns of a pair that carry the contrast: all (paper), those from the first difference on, or
    `window` turns from the first difference on."""
    window: int | None = Field(None, ge=1)
    """Turns after the parting that carry the contrast; given with `turns: window` only."""
    discount: float = Field(1.0, gt=0, le=1)
    """Weight factor per turn of distance from the parting; 1 weighs all alike (paper)."""
    discount_kind: Literal["geometric", "dmpo"] = "geometric"
    """How `discount` falls: as a power of the distance, or as in DMPO (arXiv 2406.14868)."""
    repeats: bool = True
    """Whether a turn that repeats an earlier one of its trajectory counts again. Paper: true."""

    @model_validator(mode="after")
    def _window_goes_with_turns(self) -> ContrastRecipe:
        if self.turns == "window" and self.window is None:
            raise ValueError("turns: window needs contrast.window, for example 3")
        if self.turns != "window" and self.window is not None:
            raise ValueError(f"window has no meaning with turns: {self.turns}; set contrast.window to null")
        return self


class DpoRecipe(_Optimisation):
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate. Paper: 1e-6."""
    batch_pairs: int = Field(32, ge=1)
    """Pairs, and replayed trajectories, of one optimiser step. Paper: 32."""
    schedule: Schedule = "constant_with_warmup"
    """Course of the learning rate. Paper's code: constant_with_warmup."""
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises. Paper's code: 0.1."""
    beta: float = Field(0.1, gt=0)
    """Strength of the pull to the reference. Paper: 0.1."""
    sft_weight: float = Field(0.0, ge=0)
    """Weight of the chosen's mean negative log-likelihood. Paper: 0; IPR (arXiv 2406.11176): 1 on its sum."""
    replay_weight: float = Field(0.0, ge=0)
    """Weight of the mean negative log-likelihood of expert trajectories whose tasks gave no pair, mixed
    among the pairs against forgetting what is won. Paper: 0."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose order is wrong; with `loss: sigmoid` only. Paper: 0."""
    loss: Literal["sigmoid", "ipo", "length_normalised"] = "sigmoid"
    """sigmoid is DPO with a plain sum (paper); ipo is arXiv 2310.12036; length_normalised divides each
    log-ratio by its number of action tokens."""

    @model_validator(mode="after")
    def _smoothing_goes_with_sigmoid(self) -> DpoRecipe:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing has no meaning with loss: {self.loss}; set it to 0")
        return self


class GuardRecipe(_Section):
    """When preference training stops, and what goes on. The paper has none of these."""

    dev_every_epoch: bool = True
    """Play the dev tasks after each DPO epoch and go on with the best checkpoint."""
    max_margin: float | None = Field(10.0, gt=0)
    """Stop when a step's mean reward margin, beta times nats, passes this; null: never."""
    max_chosen_drop: float | None = Field(20.0, gt=0)
    """Stop when a step's mean log-ratio of chosen falls this many nats below 0; null: never."""
    max_drift: float | None = Field(None, gt=0)
    """Stop when a step's mean log-ratio of chosen or rejected is this many nats from 0; null: never."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many dev checks in a row without a better one; null: never."""
    ship_only_if_better: bool = True
    """A round that does not beat its own starting agent on dev is reported and dropped."""


class EvaluationRecipe(_Section):
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature on dev and test. Paper: 0."""
    slots: int = Field(24, ge=1)
    """Episodes that run at the same time."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamples behind each 95% interval."""


class Recipe(_Section):
    """One experiment, complete."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    """Name of the experiment: letters, digits, dot, dash and underscore."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
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
    checkpoint_seconds: int = Field(120, ge=1)
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
        if self.guard.patience is not None and not self.guard.dev_every_epoch:
            raise ValueError("guard.patience counts dev checks: it needs guard.dev_every_epoch")
        return self
