"""The tables of a run as CSV, for spreadsheets and scripts, and as LaTeX, for papers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors, write_atomic
from eto.data.texts import shown
from eto.evaluation.table import Cell, split_tables

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the start of a formula."""
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "-": "-"},
}
_SIGNED = re.compile(r"[+-][0-9.]+")


def write_tables(results: Mapping[str, Any], directory: Path, form: str) -> list[Path]:
    """Write each table that has rows as `<split>-<table>.csv` or `.tex` into `directory`.

    form: csv or latex. Raises `MissingRequirement` on a full disk.
    """
    written, (suffix, text_of) = [], {"csv": ("csv", csv_table), "latex": ("tex", latex_table)}[form]
    with disk_errors(directory):
        directory.mkdir(exist_ok=True)
        for split in results["splits"]:
            for name, (header, rows) in split_tables(results, split).items():
                if rows:
                    path = directory / f"{split}-{name}.{suffix}"
                    write_atomic(path, text_of(header, rows))
                    written.append(path)
    return written


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """One line a row. A figure with an interval takes three columns, the two bounds after it; what is not
    known is empty. A name that a spreadsheet would compute has an apostrophe in front."""
    ranged = [any(len(row[place]) > 1 for row in rows) for place in range(len(header))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [
        [name, f"{name} low", f"{name} high"] if wide else [name] for name, wide in _both(header, ranged)
    ]
    writer.writerow([_safe(head) for each in heads for head in each])
    for row in rows:
        cells: list[str] = []
        for cell, wide in _both(row, ranged):
            values = [*cell, "", ""][:3] if wide else list(cell)
            cells += ["" if value == "–" else _safe(value) for value in values]
        writer.writerow(cells)
    return text.getvalue()


def latex_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A `tabular` with the rules of the package booktabs; intervals stand in brackets after their figure."""
    lines = [
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        "\\toprule",
        " & ".join(map(latex_text, header)) + r" \\",
        "\\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """`text` with what LaTeX would take for a command escaped."""
    return "".join(_LATEX.get(character, character) for character in shown(text, line=True))


def _latex_cell(cell: Cell) -> str:
    figures = [f"${each}$" if _SIGNED.fullmatch(each) else latex_text(each) for each in cell]
    # Braces: a bracket at the start of a row would be taken for an argument of the line break before it.
    return figures[0] if len(figures) == 1 else f"{figures[0]} {{[{', '.join(figures[1:])}]}}"


def _safe(value: str) -> str:
    text = shown(value, line=True)
    return f"'{text}" if text.startswith(FORMULA) and not _SIGNED.fullmatch(text) else text


def _both(cells: Sequence[Any], ranged: Sequence[bool]) -> Any:
    return zip(cells, ranged, strict=True)
