"""A `transformers` causal LM in this process: trained, saved and loaded, and lent to actors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eto.engines.actor import Actor
from eto.engines.in_process import InProcessEngine
from eto.engines.in_process.ngram_drafter import NgramDrafter
from eto.engines.in_process.probe import check_acting
from eto.errors import EngineFailure
from eto.models.adapters import adapted, frozen_of
from eto.models.architecture import (
    base_of,
    check_architecture,
    checked_vocabulary,
    chosen_context,
    sharing_copy,
)
from eto.models.dtype import compute_dtype, device_of
from eto.models.frozen import check_frozen, frozen_mark, merged, read_adapters, write_adapters
from eto.models.loading import Source, check_kind, find_model, load_model, load_tokenizer
from eto.models.saving import check_savable, save_model
from eto.settings import DistributedSettings, TrainingSettings
from eto.settings.limits import Count, Seed, check_values
from eto.tokens.prefix_tree import Tree
from eto.tokens.rendering import NOT_AGENT, Rendered, Renderer, Thoughts
from eto.training.backends import ScoringProgress, log_probs, micro_batch_tokens
from eto.training.backends.sharded import scored_by_ranks
from eto.training.example import Example, Objective
from eto.training.loop import Fit
from eto.training.optimiser import Optimiser
from eto.training.probe import check_training

FIELDS = {
    "dtype": "model.dtype",
    "lora": "model.lora",
    "max_context": "model.max_context",
}
"""Arguments of a learner as a recipe calls them."""


class Learner:
    """Weights in fp32 for training, one tokenizer, and actors with its weights: fit, score, save, load.

    Its actors share one copy of the weights, made for the first of them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        dtype: str = "auto",
        max_context: Count | None = None,
        lora: dict[str, Any] | None = None,
        drafting: bool = True,
        fast_paths: bool = True,
        renderer: Renderer | None = None,
        distribution: DistributedSettings | None = None,
    ) -> None:
        """`drafting`: guess how actions continue, which saves steps and changes no action. `fast_paths`:
        False acts and trains without those of a CPU. `renderer`: by default that of the tokenizer's own chat
        template. `distribution`: trains in other processes; by default in this one."""
        given = {"dtype": dtype, "max_context": max_context}
        check_values(Learner.__init__, given, FIELDS)
        check_architecture(model)
        self._fetch: Callable[[], None] | None = None
        self.model, self.tokenizer = model, tokenizer
        self.distribution = distribution or DistributedSettings()
        self._lora, self.fast_paths = lora, fast_paths
        self._frozen = frozen_mark(model) if frozen_of(lora) != "float32" else None
        self.renderer = renderer or Renderer(tokenizer)
        self.renderer.embeddings = checked_vocabulary(model, tokenizer)
        self.tokenizer_id: str | None = self.renderer.fingerprint
        self.dtype = compute_dtype(dtype, model.device)
        self.max_context = chosen_context(model.config, max_context)
        self.drafter = NgramDrafter() if drafting else None
        self._engine: InProcessEngine | None = None
        self.weights: object = object()
        """Stands for the weights as they are now: another one once they have changed."""
        self.saved: Path | None = None
        """Where the weights as they are now lie, as far as this learner knows."""

    @property
    def model(self) -> Any:
        """With the weights as they are now: what other processes have trained is fetched first."""
        if self._fetch is not None:
            fetch, self._fetch = self._fetch, None
            fetch()
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        self._model, self._fetch = model, None

    def weights_elsewhere(self, fetch: Callable[[], None]) -> None:
        """Other processes have changed the weights; `fetch` brings the model theirs, once somebody asks."""
        self._fetch = fetch

    # -- acting -----------------------------------------------------------------------

    def actor(self, name: str) -> Actor:
        """An agent called `name` that acts with the weights as they are now, until they are trained."""
        if self._engine is None:
            self._engine = InProcessEngine(
                self.model,
                max_context=self.max_context,
                dtype=self.dtype,
                drafter=self.drafter,
                fast_paths=self.fast_paths,
            )
        return Actor(self._engine, self.renderer, name)

    def remember(self, rendered: Rendered) -> None:
        """Guess from the actions of this trajectory too, for example an expert's that was cloned."""
        if self.drafter is not None:
            places = (at for at, turn in enumerate(rendered.turns) if turn != NOT_AGENT)
            self.drafter.learn(rendered.ids, places)

    def weights_changed(self) -> None:
        """Actors made so far act no more: their weights are freed. Training calls it before each update."""
        if self._engine is not None:
            self._engine.drop_weights()
        self._engine = None
        self.weights, self.saved = object(), None

    # -- training ---------------------------------------------------------------------

    def fit(
        self,
        examples: Sequence[Example],
        objective: Objective,
        settings: TrainingSettings,
        *,
        seed: Seed = 0,
        activation_checkpointing: bool | None = None,
        checkpoint_seconds: float = 120.0,
        objective_settings: object = None,
        directory: Path | None = None,
        optimiser: Optimiser | None = None,
    ) -> Fit:
        """Training of the weights in place, one step at a time; arguments and errors as of `Fit`."""
        return Fit(
            self,
            examples,
            objective,
            settings,
            seed=seed,
            activation_checkpointing=activation_checkpointing,
            checkpoint_seconds=checkpoint_seconds,
            objective_settings=objective_settings,
            directory=directory,
            optimiser=optimiser,
        )

    def score(
        self,
        trees: Sequence[Tree],
        micro_batch_tokens: int | None = None,
        *,
        progress: ScoringProgress | None = None,
    ) -> list[list[np.ndarray]]:
        """For each leaf of each tree `[agent tokens]` log-probs (nats) under the weights as they are,
        without dropout. `micro_batch_tokens`: of the forward passes that run at the same time. `progress`: is
        told how many trees are scored, and how many there are, unless the model is divided.

        A model that is divided in training is divided for this too. Raises `EngineFailure` where one is not
        a number, as with weights that a high learning rate has blown up."""
        return self._scored(trees, micro_batch_tokens, progress, values=False)

    def values(
        self,
        trees: Sequence[Tree],
        micro_batch_tokens: int | None = None,
        *,
        progress: ScoringProgress | None = None,
    ) -> list[list[np.ndarray]]:
        """As `score`, the value head's estimate in the state before each token."""
        return self._scored(trees, micro_batch_tokens, progress, values=True)

    def _scored(
        self, trees: Sequence[Tree], tokens: int | None, progress: ScoringProgress | None, *, values: bool
    ) -> list[list[np.ndarray]]:
        if self.distribution.backend == "fsdp2":
            found = scored_by_ranks(self, trees, tokens or micro_batch_tokens(self.model), values=values)
        else:
            model, fast = self.model, self.fast_paths
            found = log_probs(
                model, trees, self.dtype, tokens, fast_paths=fast, values=values, progress=progress
            )
        if not all(np.isfinite(leaf).all() for leaves in found for leaf in leaves):
            what = "a value" if values else "a log-prob"
            hint = "lower the learning rate of the training before, or use float32"
            raise EngineFailure(f"{what} under this model is not a number", hint=hint)
        return found

    # -- files ------------------------------------------------------------------------

    def load(self, directory: str | Path) -> None:
        """Take the weights that `save` wrote there.

        With LoRA these are merged weights and get fresh adapters: the lineage of an agent
        is a chain of whole models, and a stage's reference is the model it started from. Narrow frozen
        weights (`model.lora.frozen`) stay as they are where the adapters on them were saved too, and those
        go on: merged weights would be rounded once more.
        """
        folder, device = Path(directory), self.model.device
        if self._frozen is not None and read_adapters(self.model, folder, self._frozen):
            base = base_of(self.model)
            if hasattr(base, "value_head"):
                del base.value_head
        else:
            place = device if self._frozen is None else "cpu"
            model = load_model(Source(str(folder), str(folder)), place)
            self.model = model if self._lora is None else adapted(model, self._lora, self.dtype, device)
            if self._frozen is not None:
                self._frozen = frozen_mark(self.model)
        self.weights_changed()
        self.saved = folder

    def save(self, directory: str | Path) -> None:
        """Write model (safetensors; adapters merged, without a value head) and tokenizer, loadable by
        transformers.

        Raises `MissingRequirement` on a full disk, `InputError` where it cannot be written.
        """
        model = self.model
        if hasattr(model, "peft_config"):
            model = merged(model, device=torch.device("cpu") if self._frozen else None)
        if hasattr(model, "value_head"):
            model = sharing_copy(model)
            del model.value_head
        save_model(model, self.renderer.saved_tokenizer, Path(directory))
        if self._frozen is not None:
            write_adapters(self.model, Path(directory), self._frozen)


def load_learner(
    path: str | Path = "embedded",
    *,
    dtype: str = "auto",
    lora: dict[str, Any] | None = None,
    max_context: Count | None = None,
    device: str | None = None,
    drafting: bool = True,
    fast_paths: bool = True,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    thoughts: Thoughts = "auto",
    date: str | None = None,
    distribution: DistributedSettings | None = None,
) -> Learner:
    """A learner from `embedded`, a local directory, or a Hub id; weights in fp32.

    A directory with a LoRA adapter alone is loaded merged into the base that it names. `lora` (rank,
    alpha, dropout, target_modules, frozen) adds fresh adapters and freezes the rest. `drafting`, `fast_paths`
    and `distribution` as in `Learner`; `chat_template` (a file, or a name) and what follows as in `Renderer`.
    Raises `InputError` for a path that is not a complete causal LM, an architecture that is not supported, a
    chat template that cannot be used, a model that could not be saved again, and an argument out of range.
    """
    check_values(load_learner, locals(), FIELDS)
    divided = distribution is not None and distribution.backend == "fsdp2"
    place = device_of("cpu" if divided and device is None else device)  # GPUs are for those who train
    compute = compute_dtype(dtype, place)
    narrow = frozen_of(lora) != "float32"
    check_frozen(frozen_of(lora), compute)
    source = find_model(path)
    check_kind(source.model)
    tokenizer = load_tokenizer(source)
    model = load_model(source, "cpu" if narrow else place)
    check_acting(model)
    check_savable(model, tokenizer, source.model)
    if narrow:  # rounded weights are not compared to within rounding of fp32
        check_training(model, plain=True)
        check_training(model, plain=not fast_paths)
    return Learner(
        model if lora is None else adapted(model, lora, compute, place),
        tokenizer,
        dtype=dtype,
        max_context=max_context,
        lora=lora,
        drafting=drafting,
        fast_paths=fast_paths,
        renderer=Renderer(
            tokenizer, chat_template, arguments=chat_template_kwargs, thoughts=thoughts, today=date
        ),
        distribution=distribution,
    )
