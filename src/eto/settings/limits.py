"""What a setting may be: types with their bounds.

Recipes, the settings of the functions in Python and their arguments all take their bounds from
here; `check` applies them where pydantic does not, with the errors of a recipe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen

from eto.data.texts import brief
from eto.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
EpisodeSeed = Annotated[int, Ge(0), Lt(2**63)]
ContextLength = Annotated[int, Ge(64)]
Megabytes = Annotated[int, Ge(64)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Portion = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Ge(0), Lt(1)]
Smoothing = Annotated[float, Ge(0), Lt(0.5)]
Discount = Annotated[float, Gt(0), Le(1)]
Names = Annotated[list[str], MinLen(1)]

Dtype = Literal["auto", "float32", "bfloat16"]

STRICT: Any = {"strict": True, "allow_inf_nan": False}
"""How pydantic takes values: as they are, and no infinite or NaN numbers."""

_WANTED = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "too_short": "must not be empty",
    "missing": "is missing",
}


def check(settings: Any) -> None:
    """Raises `InputError` naming the field of the dataclass `settings` whose value its type does not
    allow."""
    names = (field.name for field in dataclasses.fields(settings))
    check_values(type(settings), {name: getattr(settings, name) for name in names})


def check_values(
    owner: Callable[..., Any], values: Mapping[str, Any], fields: Mapping[str, str] = {}
) -> None:
    """Raises `InputError` naming the first of `values` that the type of the field or argument of that
    name of `owner`, a class or a function, does not allow. `fields`: what a recipe calls them."""
    from pydantic import ValidationError  # here: `import eto` stays quick

    for name, value in values.items():
        where = fields.get(name) or f"{owner.__qualname__.removesuffix('.__init__')}: {name}"
        if name not in _annotations(owner):
            raise InputError(
                "unknown setting", where=where, hint=f"known here: {', '.join(_annotations(owner))}"
            )
        try:
            _adapter(owner, name).validate_python(value)
        except ValidationError as error:
            problem = f"{wanted(error.errors()[0])}, but is {brief(value)}"
            raise InputError(problem, where=where, hint=f"correct {name}") from None


def wanted(detail: Mapping[str, Any]) -> str:
    """What a value must be, by one of pydantic's error details."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return _WANTED.get(detail["type"]) or detail["msg"][0].lower() + detail["msg"][1:]


@cache
def _annotations(owner: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: hint for name, hint in get_type_hints(owner, include_extras=True).items() if name != "return"
    }


@cache
def _adapter(owner: Callable[..., Any], name: str) -> TypeAdapter[Any]:
    from pydantic import BaseModel, ConfigDict, InstanceOf, TypeAdapter

    hint = _annotations(owner)[name]
    if dataclasses.is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        return TypeAdapter(InstanceOf[hint])  # type: ignore[misc, valid-type]
    return TypeAdapter(hint, config=ConfigDict(**STRICT, arbitrary_types_allowed=True))
