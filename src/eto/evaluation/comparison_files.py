"""The files of a comparison: tables, figure, and the outcome of every run, from which several comparisons
of the same recipes, with other seeds or other recipes beside them, are joined without their runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import disk_errors, read_json, write_atomic, write_json
from eto.data.texts import shown
from eto.errors import InputError
from eto.evaluation.compared import compared
from eto.evaluation.compared_figure import draw_comparison
from eto.evaluation.compared_text import compared_parts
from eto.evaluation.outcomes import Outcome
from eto.evaluation.parts import Part, parts_markdown
from eto.experiment.recipe import recipe_diff

if TYPE_CHECKING:
    from pydantic import TypeAdapter

NAMES = ("comparison.md", "comparison.json", "comparison.png")
_LAST = "The last agents that each method made, whether or not dev chose them,"


@dataclass(frozen=True, slots=True)
class Compared:
    """A recipe of a comparison, or one of its controls, with what there is of it."""

    label: str
    of: str
    """The label of the recipe; its own where it is no control."""
    control: str = ""
    """Which control it is; "" for a recipe of the user's."""
    own_clone: bool = False
    """It is the agent that the recipe's method clones first."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Dotted name -> value of the settings that decide its results, without the seed; {} for a control, which
    follows from its recipe's."""
    shipped: tuple[Outcome, ...] = ()
    """Of each seed the agent that the run ships."""
    others: tuple[Outcome, ...] = ()
    """Of each seed whose run ships another agent than the last one that the method made: that one."""

    @property
    def last(self) -> tuple[Outcome, ...]:
        """Of each seed the last agent that the method made."""
        of_seed = {one.seed: one for one in (*self.shipped, *self.others)}
        return tuple(of_seed.values())


@dataclass(frozen=True, slots=True)
class Tables:
    """What a comparison comes to."""

    parts: list[Part]
    """For a reader."""
    rows: dict[str, Any]
    """Label -> the row of `compared` with, under `part`, what `read_comparison` reads, and under `last` the
    figures of the last agents."""


def comparison_tables(parts: Sequence[Compared], seeds: int) -> Tables:
    """The tables of `parts`. seeds: how many there will be."""
    recipes = [part.label for part in parts if not part.control]
    ordered = [part for label in recipes for part in parts if part.of == label]
    ordered.sort(key=lambda part: (recipes.index(part.of), bool(part.control)))
    controls = {
        label: {part.control: part.label for part in ordered if part.control and part.of == label}
        for label in recipes
    }
    table = compared({part.label: part.shipped for part in ordered}, controls)
    others = any(part.others for part in ordered)
    last = compared({part.label: part.last for part in ordered}, controls) if others else table
    notes = [f"{each.label}: the recipe's own clone, not trained again" for each in ordered if each.own_clone]
    notes += [
        f"{each.label}: no seed is finished yet" for each in ordered if not (each.control or each.shipped)
    ]
    tables = compared_parts(table, seeds=seeds, notes=notes)
    if others:
        tables += compared_parts(last, seeds=seeds, agents=_LAST)
    of_label = {part.label: part for part in ordered}
    for label, row in table.items():
        row["last"] = {key: last[label][key] for key in ("agents", "figures", "differences")}
        row["part"] = asdict(of_label[label])
    return Tables(tables, table)


def write_comparison(tables: Tables, out: Path) -> None:
    """Write comparison.json, .md and .png into `out`. Raises `InputError` where it cannot be written,
    `MissingRequirement` on a full disk."""
    with disk_errors(out):
        write_json(out / "comparison.json", tables.rows)
        draw_comparison(tables.rows, out / "comparison.png")
        text = parts_markdown([*tables.parts, "![reward against cost](comparison.png)"])
        write_atomic(out / "comparison.md", text)


def read_comparison(path: Path) -> list[Compared]:
    """The parts of a comparison, from its comparison.json or the directory that holds it.

    Raises `InputError` where it cannot be read, or is no comparison or one of a version that kept no
    outcomes.
    """
    from pydantic import ValidationError

    file = path / "comparison.json" if path.is_dir() else path
    table = read_json(file)
    if not isinstance(table, dict) or not table or not all(isinstance(row, dict) for row in table.values()):
        hint = "name the directory of a comparison (`eto compare`), or its comparison.json"
        raise InputError("this is no comparison", where=str(file), hint=hint)
    parts = []
    for label, row in table.items():
        if "part" not in row:
            problem = f"{shown(label, line=True)} has no outcomes by task"
            hint = "run the same `eto compare` again where its runs are: it only writes the tables anew"
            raise InputError(problem, where=str(file), hint=hint)
        try:
            parts.append(_reader().validate_python(row["part"]))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(each) for each in (label, "part", *first["loc"]))
            hint = "restore the file from a copy"
            raise InputError(
                f"{shown(where, line=True)}: {first['msg']}", where=str(file), hint=hint
            ) from None
    return parts


def join(comparisons: Mapping[str, Sequence[Compared]]) -> list[Compared]:
    """The parts of several comparisons, by where each was read, as those of one.

    A label that several have must be the same recipe in all. A seed that several have must be the same
    run's outcome, but for its wall time. Raises `InputError` naming label, seed and both places otherwise.
    """
    labels = dict.fromkeys(part.label for parts in comparisons.values() for part in parts)
    return [
        _joined(
            [(where, part) for where, parts in comparisons.items() for part in parts if part.label == label]
        )
        for label in labels
    ]


def _joined(same: Sequence[tuple[str, Compared]]) -> Compared:
    first_place, first = same[0]
    for where, other in same[1:]:
        changed = recipe_diff(first.recipe, other.recipe)
        if (first.of, first.control) != (other.of, other.control):
            changed.append(f"control: {first.control or 'none'} -> {other.control or 'none'}")
        if changed:
            raise InputError(
                f"{shown(first.label, line=True)} is another recipe here than in {first_place}\n  "
                + "\n  ".join(changed),
                where=where,
                hint="join comparisons of the same recipes, or give each its own `name`",
            )
    return Compared(
        label=first.label,
        of=first.of,
        control=first.control,
        own_clone=all(part.own_clone for _, part in same),
        recipe=first.recipe,
        shipped=_of_all((where, part.shipped) for where, part in same),
        others=_of_all((where, part.others) for where, part in same),
    )


def _of_all(outcomes: Iterable[tuple[str, Sequence[Outcome]]]) -> tuple[Outcome, ...]:
    found: dict[int, tuple[str, Outcome]] = {}
    for where, several in outcomes:
        for one in several:
            there, kept = found.setdefault(one.seed, (where, one))
            if (kept.agent, kept.values) != (one.agent, one.values):
                raise InputError(
                    f"seed {one.seed} of {one.run} ended otherwise than in {there}",
                    where=where,
                    hint="leave one of the two out: a seed counts once",
                )
    return tuple(one for _, (_, one) in sorted(found.items()))


def _reader() -> TypeAdapter[Compared]:
    from pydantic import TypeAdapter

    return TypeAdapter(Compared)
