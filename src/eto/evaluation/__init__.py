"""Statistics, results, tables and figures of finished runs.

- `behaviour`: how an agent acts, whatever it earns
- `changes`: tasks that one agent solved and the other did not
- `compared`: methods side by side: rewards, differences to controls, costs
- `compared_figure`: reward against cost, as a picture
- `compared_text`: the tables of a comparison
- `comparison_files`: the files of a comparison, written, read and joined
- `costs`: environment steps, generated and trained tokens, wall time
- `crossed`: differences over tasks and seeds drawn anew
- `curve`: the learning-curve picture
- `data_card`: the card of an exported data set
- `exported`: the tables as CSV and LaTeX
- `facts`: what is written of a run besides its episodes, and what of it cannot be read
- `model_card`: the card of an exported model
- `outcomes`: what a comparison needs of one run
- `parts`: texts and tables one after another
- `pooled`: several seeds of one recipe as one table
- `report_text`: the report of a run, whole and in short
- `results`: every figure of a run as one JSON object
- `statistics`: means, confidence intervals, paired differences
- `table`: the tables, for terminal and Markdown
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors, read_rows, write_atomic, write_json
from eto.evaluation.curve import draw_curve
from eto.evaluation.report_text import markdown
from eto.evaluation.results import build_results

__all__ = ["Paths", "build_results", "draw_curve", "markdown", "write_report"]


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a report."""

    results: Path
    markdown: Path
    curve: Path
    curve_svg: Path


def write_report(run_directory: str | Path, results: Mapping[str, Any] | None = None) -> Paths:
    """Write results.json, report.md, curve.png and curve.svg into the run directory, from what is there.

    results: those of `build_results`, where they are at hand. Raises `InputError` where there is no run, or
    it cannot be read or written, `MissingRequirement` on a full disk.
    """
    directory = Path(run_directory)
    if results is None:
        results = build_results(directory)
    names = "results.json", "report.md", "curve.png", "curve.svg"
    paths = Paths(*(directory / name for name in names))
    with disk_errors(directory):
        write_json(paths.results, results)
        write_atomic(paths.markdown, markdown(results) + "\n![learning curve](curve.png)\n")
        rows = list(read_rows(directory / "metrics.jsonl", "stage"))
        draw_curve(results, rows, paths.curve, paths.curve_svg)
    return paths
