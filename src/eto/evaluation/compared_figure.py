"""The figure of a comparison: reward against what training cost."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import write_atomic
from eto.data.texts import shown
from eto.evaluation.curve import PLAIN, bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 60
"""Characters of a label in the legend."""
_NEAR = 0.05
"""Costs that differ by this share are about equal."""
_APART = 13.0
"""Points between those."""


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
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    from matplotlib.transforms import ScaledTranslation

    axes = figure.subplots()
    colours = colormaps["tab20"]
    costs = [row["costs"]["generated_tokens"] + row["costs"]["trained_tokens"] for row in rows.values()]
    if costs and min(costs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    for number, ((label, row), cost, aside) in enumerate(
        zip(rows.items(), costs, _dodged(costs), strict=True)
    ):
        reward = row["figures"]["reward"]
        if reward["mean"] is None:
            continue
        below, above = bars(reward["mean"], reward["low"], reward["high"])
        colour = colours((2 * number % 20 + number // 10 % 2) / 20)
        beside = ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
        axes.errorbar(
            [cost],
            [reward["mean"]],
            yerr=[[below], [above]],
            marker="*" if row["by_reward"] else "o",
            ms=11 if row["by_reward"] else 8,
            mfc="white" if ": " in label else colour,
            color=colour,
            capsize=3,
            elinewidth=1,
            transform=axes.transData + beside,
            label=shown(f"{number + 1}  {label}", line=True)[:_LONGEST],
        )
        # What is moved aside does not count for the limits by itself.
        axes.update_datalim([(cost, reward["mean"] - below), (cost, reward["mean"] + above)])
        where, apart = (cost, reward["mean"]), (aside + 5, 3)
        axes.annotate(str(number + 1), where, apart, textcoords="offset points", fontsize=8, color=colour)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.margins(x=0.1)
    axes.autoscale_view()
    axes.set_xlabel("generated and trained tokens of one run; side by side where they are about equal")
    axes.set_ylabel("reward, 95% interval over tasks")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _dodged(costs: Sequence[float]) -> list[float]:
    """Points to the right by which each is moved, so that those of about equal cost stand apart."""
    places: list[float] = []
    for number, cost in enumerate(costs):
        near = sum(abs(cost - other) <= _NEAR * max(cost, other) for other in costs[:number])
        places.append((near + 1) // 2 * (_APART if near % 2 else -_APART))
    return places
