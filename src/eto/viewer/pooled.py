"""What the page of several runs shows: their pooled figures, and a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eto.evaluation.pooled import SHIPPED, compare_runs, pool_runs, pooled_tables, recipe_name
from eto.evaluation.table import Cell, difference_rows
from eto.machine import hardware_line
from eto.viewer.charts import rewards_chart

CAPTIONS = {
    "agents": "mean and 95% interval over tasks; a task's figure is its mean over the runs that played it",
    "differences": "paired within each run; 95% interval over tasks, p by flipping signs: of these seeds",
    "seeds": "95% intervals over tasks and seeds, both drawn anew: of seeds to come too, wide with few runs",
    "types": "by task type",
    "runs": "each run",
    "times": "wall time of each stage",
}


def pooled_values(directories: Sequence[Path], against: Sequence[Path] = ()) -> dict[str, Any]:
    """Values of the template `pooled.html`. Raises `InputError` as `pool_runs` and `compare_runs` do."""
    pooled = pool_runs(directories)
    names, split = names_of(directories), pooled["split"]
    chart = rewards_chart(
        pooled["agents"],
        f"reward on {split} tasks, {len(names)} runs",
        {agent: _each(pooled, names, agent) for agent in pooled["agents"]},
    )
    tables = [
        (name, CAPTIONS[name], *_named(name, table, names)) for name, table in pooled_tables(pooled).items()
    ]
    if against:
        table = difference_rows(
            {name: {"difference": each} for name, each in compare_runs(directories, against).items()},
            f"that of {', '.join(names_of(against))}",
        )
        tables.insert(1, ("against", "run by run paired; 95% interval over tasks", *table))
    run = pooled["runs"][0]
    return {
        "recipe": recipe_name(pooled),
        "model": run["model"],
        "environment": run["environment"],
        "hardware": list(dict.fromkeys(hardware_line(each["hardware"]) for each in pooled["runs"])),
        "split": split,
        "names": names,
        "chart": chart,
        "tables": [table for table in tables if table[-1]],
    }


def names_of(directories: Sequence[Path]) -> list[str]:
    """A name for each run, all different: its directory's, with as many of those above as that takes."""
    places = [directory.resolve().parts for directory in directories]
    return ["/".join(place[-_length(place, places) :]) for place in places]


def _length(place: tuple[str, ...], places: Sequence[tuple[str, ...]]) -> int:
    """Parts at the end of `place` by which it is told from all others."""
    others = [each for each in places if each != place]
    lengths = range(1, len(place) + 1)
    return next((n for n in lengths if all(each[-n:] != place[-n:] for each in others)), len(place))


def _each(pooled: Mapping[str, Any], names: Sequence[str], agent: str) -> list[tuple[str, float]]:
    """The runs' own rewards of an agent, by name."""
    found = []
    for name, run in zip(names, pooled["runs"], strict=True):
        own = run["shipped"]["agent"] if agent == SHIPPED else agent
        mean = run["splits"][pooled["split"]]["agents"][own]["reward"]["mean"]
        if mean is not None:
            found.append((name, float(mean)))
    return found


def _named(
    table: str, cells: tuple[list[str], list[list[Cell]]], names: Sequence[str]
) -> tuple[list[str], list[list[Cell]]]:
    """The tables of runs with the names that the file gives them, which are all different."""
    header, rows = cells
    if table == "runs":
        return header, [[(name,), *row[1:]] for name, row in zip(names, rows, strict=True)]
    if table == "times":
        return [header[0], *names], rows
    return header, rows
