"""What every settings class is: strict, frozen, documented by field, and valid or not there at all."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from eto.data.texts import brief
from eto.errors import InputError
from eto.settings.limits import STRICT, wanted

SKIPPED = "default_factory_not_called"
"""Pydantic's error for a default that depends on a field which is wrong itself."""


@dataclass(frozen=True)
class Most:
    """Beside a field: the largest value in a recipe; a larger one is a slip that would fill the memory
    or never end."""

    value: float


@dataclass(frozen=True)
class Free:
    """Beside a field: it may change between two starts of one run, for it does not decide its results."""


@dataclass(frozen=True)
class Yields:
    """A default that gives way: `instead` where the value of `field`, declared earlier, is such that
    `default` would have no effect."""

    default: Any
    field: str
    when: Callable[[Any], bool]
    instead: Any

    def __call__(self, validated: dict[str, Any]) -> Any:
        return self.instead if self.when(validated.get(self.field)) else self.default


class Conflict(ValueError):
    """Settings that do not go together; raised by validators.

    In `text`, `{place}` stands before the name of each field: nothing in Python, `method.sft.` in a recipe.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def at(self, place: str) -> str:
        """The text for fields whose names have `place` before them."""
        return self.text.replace("{place}", place)


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _Checked(ModelMetaclass):
    """Built in Python with a bad value, a class raises `InputError` that names class and field."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise _input_error(cast(type[BaseModel], cls), error) from None


class Settings(BaseModel, metaclass=_Checked):
    """Base of all settings. Raises `InputError` for an unknown name, a value out of range or without
    effect; a recipe names file and line instead."""

    model_config = ConfigDict(**STRICT, extra="forbid", frozen=True, use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, validated again; defaults that were not set adapt to them."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**(given | changes))


class MethodSettings(Settings):
    """Base of a method's settings: its class adds `name: Literal[...]`, its sections and values."""

    name: str
    """The method, such as `eto`; `eto.methods` has a file of that name."""

    @model_validator(mode="before")
    @classmethod
    def _sections_in_part(cls, given: Any) -> Any:
        """A section of which a recipe gives some fields has the method's own defaults in the others."""
        if not isinstance(given, dict):
            return given
        sections = {
            name: _completed(field.default, given[name])
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Settings) and isinstance(given.get(name), dict)
        }
        return given | sections

    def needs_dev(self) -> str:
        """The field that asks for dev tasks, such as `guard.dev_every_epoch`; "" where none does."""
        return ""

    def needs_adapters(self) -> str:
        """The field that asks for `model.lora`; "" where none does."""
        return ""

    def idle_without_expert(self) -> str:
        """What to change where episodes of tasks without an expert are played and not used; "" where they are
        used, or none are played."""
        return ""

    def without_effect(self) -> Mapping[str, str]:
        """Sections and fields that nothing reads with these values -> what to change, in words."""
        return {}


def _completed(default: Settings, given: dict[str, Any]) -> dict[str, Any]:
    """`given` with what `default` sets besides; not what gives way to a given field."""
    completed = dict(given)
    for name in sorted(default.model_fields_set - given.keys()):
        factory = type(default).model_fields[name].default_factory
        if not (isinstance(factory, Yields) and factory.when(given.get(factory.field))):
            completed[name] = getattr(default, name)
    return completed


def _input_error(settings_type: type[BaseModel], error: ValidationError) -> InputError:
    """The first mistake as an error; `ClassName: field` says where."""
    details = [each for each in error.errors(include_url=False) if each["type"] != SKIPPED]
    detail = details[0]
    field = ".".join(map(str, detail["loc"]))
    where = f"{settings_type.__name__}: {field}" if field else settings_type.__name__
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, settings_type.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(settings_type.model_fields)}"
        return InputError("unknown setting", where=where, hint=hint)
    if isinstance(problem := detail.get("ctx", {}).get("error"), Conflict):
        return InputError(problem.at(""), where=where, hint="change one of the two")
    if detail["type"] == "missing":
        return InputError("is missing", where=where, hint=f"give {field}")
    problem = f"{wanted(detail)}, but is {brief(detail['input'])}"
    return InputError(problem, where=where, hint=f"correct {field}")
