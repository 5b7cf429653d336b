"""Write the tables of docs/recipes.md and docs/eto.md from the recipe's fields, and those of
docs/files.md from the lists of fields that the readers of data files use.

python scripts/recipe_page.py            writes the pages
python scripts/recipe_page.py --check    says which page is not up to date, exit 1
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eto.data.codec import META, OWN_FIELDS
from eto.data.foreign.forms import READ_AS_PAIRS, REFUSED_FORMS
from eto.data.foreign.lists import MESSAGE, PAIR, TRAJECTORY
from eto.data.foreign.messages import ROLES
from eto.experiment.recipe import Recipe, load_recipe
from eto.experiment.recipe_fields import DEFAULT_METHOD, default_of, is_free, most_of, section_of
from eto.methods import METHODS
from eto.settings import MethodSettings, Settings

ROOT = Path(__file__).resolve().parents[1]
NAMES = {int: "integer", float: "number", bool: "`true` or `false`", str: "text", type(None): "`null`"}
SIGNS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}


def fields(section: type[BaseModel] = Recipe, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field that holds a value, by its dotted path; a section's own before those inside it.

    The fields of `method` are not among a recipe's: they are the method's own, see `method_fields`.
    """
    inner = {name: section_of(field.annotation) for name, field in section.model_fields.items()}
    for name, field in section.model_fields.items():
        if inner[name] in (None, MethodSettings) or type(None) in get_args(field.annotation):
            yield path + name, field
    for name, kind in inner.items():
        if kind not in (None, MethodSettings):
            yield from fields(kind, f"{path}{name}.")


def method_fields(name: str) -> Iterator[tuple[str, FieldInfo]]:
    """As `fields`, of the section `method` with the method `name`, and with the defaults it has there."""
    settings = METHODS[name].settings
    for path, field in fields(settings, "method."):
        _, *sections, last = path.split(".")
        default = settings.model_fields[sections[0]].default if sections else None
        if isinstance(default, Settings) and last in default.model_fields_set:
            field = copy(field)
            field.default, field.default_factory = getattr(default, last), None
        yield path, field


def type_text(annotation: Any, field: FieldInfo | None = None) -> str:
    """A field's type in words, with its bounds: `integer ≥ 1`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    bounds = list(field.metadata) if field else []
    if origin is Annotated:
        text, bounds = type_text(inner[0]), list(inner[1:])
    elif origin is Literal:
        text = ", ".join(f"`{choice}`" for choice in inner)
    elif origin in (Union, types.UnionType):
        parts = [type_text(kind) for kind in inner if kind is not type(None)]
        return " or ".join([*parts, "`null`"])
    elif origin is list:
        text = f"list of {type_text(inner[0])}"
    elif origin is dict:
        text = "mapping"
    elif section_of(annotation) is not None:
        text = "mapping (below)"
    else:
        text = NAMES[annotation]
    signs = ((SIGNS[type(bound)], bound) for bound in bounds if type(bound) in SIGNS)
    limits = ((sign, getattr(bound, name)) for (name, sign), bound in signs)
    shown = (f"{sign} {limit:,}" if isinstance(limit, int) else f"{sign} {limit:g}" for sign, limit in limits)
    return f"{text} {' and '.join(shown)}".strip()


def value_text(value: Any) -> str:
    """A value as a recipe spells it."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float):
        text = f"{value:g}" if value == 0 or abs(value) >= 1e-3 else f"{value:e}"
        return re.sub(r"\.?0*e-0?", "e-", text)
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return str(value)


def default_text(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{value_text(default_of(field))}`"


def recipe_tables() -> str:
    """The tables of what all recipes have, then those of each method."""
    parts = [field_tables(fields(), Recipe, 2)]
    for name in sorted(METHODS, key=lambda name: (name != DEFAULT_METHOD, name)):  # the default one first
        method = METHODS[name]
        about = f"`method: {{name: {name}}}`: {method.summary}."
        parts += [f"## Method `{name}`", about, field_tables(method_fields(name), method.settings, 3)]
    return "\n\n".join(parts)


def field_tables(listed: Iterable[tuple[str, FieldInfo]], kind: type[BaseModel], level: int) -> str:
    """A heading and a table for each section."""
    parts: list[str] = []
    heading: str | None = None
    for path, field in listed:
        section = path.rpartition(".")[0]
        if section != heading:
            heading = section
            title = f"`{section}`" if section else "Top level"
            if section != "method":
                parts += ["", f"{'#' * level} {title}", "", *_about(kind, section)]
            parts += ["| field | type | default | meaning |", "|---|---|---|---|"]
        mark = " °" if is_free(field) else ""
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        if most := most_of(field):
            meaning += f" At most {most:,}."
        default = "`eto`" if section_of(field.annotation) is MethodSettings else default_text(field)
        parts.append(f"| `{path}`{mark} | {type_text(field.annotation, field)} | {default} | {meaning} |")
    return "\n".join(parts).strip()


def _about(kind: Any, section: str) -> list[str]:
    description = ""
    for name in section.removeprefix("method.").split("."):
        if not name:
            return []
        field = kind.model_fields[name]
        kind, description = section_of(field.annotation), field.description or ""
    return [" ".join(description.split()), ""]


def small_model_table() -> str:
    """Every field that recipes/scienceworld_six.yaml sets to other than its default."""
    lines = ["| field | default | recipe |", "|---|---|---|"]
    recipe = load_recipe(ROOT / "recipes" / "scienceworld_six.yaml")
    for path, field in (*fields(), *method_fields(recipe.method.name)):
        *sections, name = path.split(".")
        holder: Any = recipe
        for section in sections:
            holder = holder and getattr(holder, section)  # None where a recipe leaves a section out
        if (
            holder is None
            or path.split(".")[0] in ("name", "seed", "environment", "tasks")
            or path == "method"
        ):
            continue
        value = f"`{value_text(getattr(holder, name))}`"
        if default_text(field) != value:
            lines.append(f"| `{path}` | {default_text(field)} | {value} |")
    return "\n".join(lines)


def data_tables() -> str:
    """What the readers of data files accept, honour and refuse."""
    lines = ["| in | field | is | meaning, or what to do instead |", "|---|---|---|---|"]
    for fields_of in (TRAJECTORY, PAIR, MESSAGE):
        for kind, listed in (("read", fields_of.read), ("refused", fields_of.refused)):
            for one in listed:
                both = one in TRAJECTORY.refused and one in PAIR.refused
                if not (both and fields_of is PAIR):
                    where = "any item" if both else fields_of.kind
                    lines.append(f"| {where} | {_names(one.names)} | {kind} | {one.says} |")
        others = "ignored and counted" if fields_of.unknown_ignored else "refused"
        lines.append(f"| {fields_of.kind} | {_names(fields_of.ignored)} | ignored | counted and reported |")
        lines.append(f"| {fields_of.kind} | any other | {others} | one letter from a name above: refused |")
    roles = {role: [name for name in ROLES if ROLES[name] == role] for role in ROLES.values()}
    told = "; ".join(f"{_names(tuple(names))}: {role}" for role, names in roles.items())
    lines.append(f"| message | value of `role`, `from` | read | {told} |")
    for kind, names in OWN_FIELDS.items():
        lines.append(f"| own {kind} | {_names(names)} | read | above |")
    lines.append(f"| own records | {_names(META)} | ignored | notes of your own |")
    lines.append("| own records | any other | refused | correct the name, or put it under `meta` |")
    lines += ["", "| form of a preference item | recognised by | read as |", "|---|---|---|"]
    lines += [f"| {form.name} | {form.keys} | {form.says} |" for form in READ_AS_PAIRS]
    lines += ["", "| form that is refused | recognised by | what to do |", "|---|---|---|"]
    lines += [f"| {form.name} | {form.keys} | {form.says} |" for _, form in REFUSED_FORMS if form.keys]
    return "\n".join(line.replace("||", "|") for line in lines)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "docs/recipes.md": ("fields", recipe_tables),
    "docs/eto.md": ("small model", small_model_table),
    "docs/files.md": ("fields", data_tables),
}


def renewed(page: str) -> str:
    """The text of `page` (relative to the repository) with its table written again."""
    marker, make = PARTS[page]
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    head, _, rest = (ROOT / page).read_text(encoding="utf-8").partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise SystemExit(f"{page}: no part between {begin} and {end}")
    return f"{head}{begin}\n{make()}\n{end}{tail}"


def main() -> int:
    stale = []
    for page in PARTS:
        text = renewed(page)
        if text != (ROOT / page).read_text(encoding="utf-8"):
            stale.append(page)
            if "--check" not in sys.argv:
                (ROOT / page).write_text(text, encoding="utf-8")
    checked = "--check" in sys.argv
    print("\n".join(f"{'stale' if checked else 'written'}: {page}" for page in stale) or "up to date")
    return int(checked and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
