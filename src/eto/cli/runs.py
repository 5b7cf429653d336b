"""`eto runs`: which runs there are, how far they are, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eto.cli.tables import print_parts
from eto.cli.terminal import say
from eto.errors import InputError
from eto.evaluation.parts import Rows
from eto.evaluation.table import UNKNOWN, Cell, interval_cell
from eto.viewer.library import Library
from eto.viewer.pages import runs_page

_HEADER = ["run", "state", "method", "seed", "agent", "split", "reward", "success", "wall time"]


def list_runs(directories: Sequence[Path]) -> None:
    """Print a table of the runs below `directories`, by default `runs`, then what of them cannot be read."""
    roots = list(directories) or [Path("runs")]
    if not directories and not roots[0].is_dir():
        hint = "name the directory of a run, or one that holds runs"
        raise InputError("there is no directory `runs` here", where="eto runs", hint=hint)
    found = runs_page(Library(roots))["runs"]
    if not found:
        say(f"there is no run below {', '.join(map(str, roots))}")
        return
    print_parts([Rows(_HEADER, [_row(each) for each in found])])
    for each in found:
        for fault in each["faults"]:
            say(f"{each['name']}: {fault}")


def _row(run: dict[str, Any]) -> list[Cell]:
    figures = run["figures"] or {}
    cells = [
        interval_cell(figures[name], 3, 3) if name in figures else (UNKNOWN,)
        for name in ("reward", "success")
    ]
    known = run["facts"]
    facts = (run["name"], run["state"], known.method, known.seed, run["agent"] or UNKNOWN)
    return [*((fact,) for fact in facts), (run["split"] or UNKNOWN,), *cells, (run["seconds"],)]
