"""A run's whole configuration, composed of the settings of its parts; an unknown key is an error.

Defaults are the paper's values for a 7B model (ETO, arXiv 2403.02502, section 4.1) wherever the
paper states one; recipes for small models override them. A recipe is a YAML file, and any value
can be overridden as `key.path=value`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, SerializeAsAny, field_validator, model_validator
from pydantic.fields import FieldInfo

from eto.experiment.needs import advice, unmet, unmet_text
from eto.experiment.recipe_yaml import Location
from eto.methods import load_method
from eto.protocols import Need
from eto.settings import (
    DistributedSettings,
    DpoSettings,
    EnvironmentSettings,
    EvaluationSettings,
    MethodSettings,
    ModelSettings,
    RolloutSettings,
    Settings,
    TaskSettings,
    TrackingSettings,
    TrainingSettings,
)
from eto.settings.base import Conflict, Free, Most, Yields
from eto.settings.distributed import QUANTISED, unfit
from eto.settings.limits import Count, Seed

DEFAULT_METHOD = "eto"


def _default_method() -> MethodSettings:
    return load_method(DEFAULT_METHOD).settings()


class Recipe(Settings):
    """One experiment, complete."""

    name: Annotated[str, Free()] = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    """Name of the experiment: letters, digits, dot, dash and underscore."""
    seed: Seed = 0
    """Decides choice and order of data, and all sampling."""
    run_directory: Annotated[str | None, Free()] = None
    """Where the run is kept; null is `runs/<name>`."""
    checkpoint_seconds: Annotated[Count, Most(31_536_000), Free()] = 120
    """Seconds between two checkpoints within a training stage."""
    model: ModelSettings = ModelSettings()
    """Which model learns."""
    environment: EnvironmentSettings
    """Where it acts."""
    tasks: TaskSettings = TaskSettings()
    """How many tasks of each task type."""
    rollout: RolloutSettings = RolloutSettings()
    """How episodes are played, in exploring and evaluating alike."""
    train: DistributedSettings = DistributedSettings()
    """In how many processes the agent is trained."""
    method: SerializeAsAny[MethodSettings] = Field(default_factory=_default_method)
    """How the agent learns: `name`, and the settings of the method of that name."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Measuring the agents."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the run's metrics go besides its own directory."""

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.run_directory or f"runs/{self.name}")

    @field_validator("method", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Validated by the class of the method named. Raises `InputError` for an unknown one."""
        if not isinstance(given, dict):
            return given
        name = given.get("name", DEFAULT_METHOD)
        if not isinstance(name, str):
            return MethodSettings.model_validate({"name": name})
        return load_method(name).settings.model_validate({"name": name} | given)

    @model_validator(mode="after")
    def _dev_tasks_where_needed(self) -> Self:
        if self.tasks.dev_per_kind == 0 and (field := self.method.needs_dev()):
            problem = f"method.{field} needs dev tasks, but tasks.dev_per_kind is 0"
            raise Conflict(f"{problem}; {advice(Need.DEV, self.method.name)}")
        return self

    @model_validator(mode="after")
    def _adapters_where_needed(self) -> Self:
        if self.model.lora is None and (field := self.method.needs_adapters()):
            raise Conflict(
                f"method.{field} needs a model with adapters, but model.lora is null; set model.lora, "
                f"or method.{field} to null"
            )
        return self

    @model_validator(mode="after")
    def _experts_where_needed(self) -> Self:
        if self.tasks.experts_per_kind == 0 and (need := unmet(self.method, Need.EXPERTS)):
            problem = f"{unmet_text(self.method.name, need)}, but tasks.experts_per_kind is 0"
            raise Conflict(f"{problem}; {advice(need, self.method.name)}")
        return self

    @model_validator(mode="after")
    def _experts_are_there_to_rehearse(self) -> Self:
        for name, section in training_sections(self.method).items():
            rehearses = isinstance(section, DpoSettings) and section.rehearsal_weight > 0
            if self.tasks.experts_per_kind == 0 and rehearses:
                problem = f"method.{name}.rehearsal_weight has no effect without experts"
                raise Conflict(f"{problem}; set it to 0, or raise tasks.experts_per_kind")
        return self

    @model_validator(mode="after")
    def _episodes_without_expert_are_used(self) -> Self:
        if self.tasks.experts_per_kind is not None and (change := self.method.idle_without_expert()):
            problem = "nothing is learnt from tasks without an expert (tasks.experts_per_kind)"
            raise Conflict(f"{problem}; {change}")
        return self

    @model_validator(mode="after")
    def _learned_optimiser_trains_adapters(self) -> Self:
        if self.model.lora is None and (learned := learned_optimisers(self.method)):
            name = next(iter(learned))
            raise Conflict(
                f"method.{name}.optimiser: learned trains adapters only, but model.lora is null; set "
                f"model.lora, such as {{rank: 16}}, or method.{name}.optimiser to adamw"
            )
        return self

    @model_validator(mode="after")
    def _trainings_go_with_processes(self) -> Self:
        if not self.train.on:
            return self
        if self.model.lora is not None and self.model.lora.frozen == "nf4":
            text, field, hint = QUANTISED
            raise Conflict(f"{text}; {hint.replace('it', f'train.{field}', 1)}")
        for name, section in training_sections(self.method).items():
            if problem := unfit(self.train, section):
                text, field, hint = problem
                raise Conflict(f"method.{name}: {text} (train.{field}); {hint}")
        return self


def training_sections(method: MethodSettings) -> dict[str, TrainingSettings]:
    """Sections of `method` that train, by name; not those that nothing reads."""
    idle = method.without_effect()
    sections = {name: getattr(method, name) for name in type(method).model_fields if name not in idle}
    return {name: section for name, section in sections.items() if isinstance(section, TrainingSettings)}


def learned_optimisers(method: MethodSettings) -> dict[str, TrainingSettings]:
    """Sections of `method` that train with a learned optimiser, by name."""
    sections = training_sections(method)
    return {name: section for name, section in sections.items() if section.optimiser == "learned"}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The settings behind a field's type, `LoraSettings | None` included."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def recipe_fields(
    method: type[MethodSettings], section: type[BaseModel] = Recipe, path: Location = ()
) -> Iterator[tuple[Location, FieldInfo]]:
    """Every field, sections included, of a recipe of `method`, with its place."""
    for name, field in section.model_fields.items():
        place = (*path, name)
        yield place, field
        inner = section_of(field.annotation)
        if inner is not None:
            yield from recipe_fields(method, method if inner is MethodSettings else inner, place)


def default_of(field: FieldInfo) -> Any:
    """A field's default, where nothing makes it give way."""
    if isinstance(field.default_factory, Yields):
        return field.default_factory.default
    return field.get_default(call_default_factory=True)


def most_of(field: FieldInfo) -> float | None:
    """The largest value of a field in a recipe; None where any is allowed that its type allows."""
    return next((mark.value for mark in field.metadata if isinstance(mark, Most)), None)


def is_free(field: FieldInfo) -> bool:
    """Whether the field may change between two starts of one run: it does not decide its results."""
    return any(isinstance(mark, Free) for mark in field.metadata)


def free_fields(recipe: Recipe) -> frozenset[str]:
    """Dotted names of the recipe's fields that may change between two starts of one run."""
    fields = recipe_fields(type(recipe.method))
    return frozenset(".".join(map(str, place)) for place, field in fields if is_free(field))
