"""The figure of a comparison: reward against what training cost."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import write_atomic
from eto.data.texts import shown
from eto.evaluation.curve import PLAIN, bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 60
"""Characters of a label in the legend."""


def draw_comparison(table: Mapping[str, Any], path: Path) -> Path:
    """Write a PNG to `path`: a numbered point for each label of `table` (of `eto.evaluation.compared`), its
    reward with the interval over tasks against generated and trained tokens; filled for methods, hollow for
    controls, a star for what is chosen by reward."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = {label: row for label, row in table.items() if not row["same_as"]}
    with rc_context(PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure = Figure(figsize=(11, max(5.0, 1.2 + 0.3 * len(rows))), layout="constrained")
        content = _picture(figure, rows)
    write_atomic(path, content)
    return path


def _picture(figure: Figure, rows: Mapping[str, Any]) -> bytes:
    from matplotlib import colormaps

    axes = figure.subplots()
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    costs = [row["costs"]["generated_tokens"] + row["costs"]["trained_tokens"] for row in rows.values()]
    for number, ((label, row), cost) in enumerate(zip(rows.items(), costs, strict=True), start=1):
        reward, control = row["figures"]["reward"], ": " in label
        if reward["mean"] is None:
            continue
        below, above = bars(reward["mean"], reward["low"], reward["high"])
        colour = colours[2 * (number - 1) % 20 + (number > 10) if number <= 20 else number % 20]
        axes.errorbar(
            [cost],
            [reward["mean"]],
            yerr=([below], [above]),
            marker="*" if row["by_reward"] else "o",
            ms=9,
            mfc="white" if control else colour,
            color=colour,
            capsize=3,
            elinewidth=1,
            label=shown(f"{number}  {label}", line=True)[:_LONGEST],
        )
        # Above and below in turns, at the ends of the intervals: equal costs lie on one another.
        up = number % 2 == 0
        place = (cost, reward["mean"] + above) if up else (cost, reward["mean"] - below)
        axes.annotate(
            str(number),
            place,
            (0, 4 if up else -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if up else "top",
            fontsize=8,
            color=colour,
        )
    if costs and min(costs) > 0:
        axes.set_xscale("log")
    axes.set_xlabel("generated and trained tokens of one run")
    axes.set_ylabel("reward, 95% interval over tasks")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
