"""The learning-curve picture of a run."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import write_atomic
from eto.data.texts import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
PLAIN: Any = {"text.parse_math": False, "text.usetex": False, "svg.hashsalt": "eto"}
"""Names are text: dollar signs and backslashes in them make no formula. Equal figures give equal files."""
ACROSS = 3
"""Panels side by side."""
CURVES: Sequence[tuple[str, str, Mapping[str, str]]] = (
    ("loss", "loss", {"loss": "loss"}),
    ("margin, chosen over rejected", "β × nats", {"margin": "margin"}),
    ("drift from the reference", "nats", {"chosen_drift": "chosen", "rejected_drift": "rejected"}),
)
"""What is drawn of each stage that trained: title, unit, and its lines by field of metrics.jsonl."""
NOTES = (
    "Checkpoints are chosen on dev tasks: their figures there are optimistic. A point that is missing is a\n"
    "figure that is not known, such as success where an environment does not tell. Losses of different\n"
    "stages are different functions: compare each with itself alone."
)


def draw_curve(results: Row, rows: Sequence[Row], *paths: Path) -> Path:
    """Write one picture to each of `paths`, PNG or SVG by its name; returns the first.

    On top the agents on dev and test; below, for each stage that trained, its loss, and of preference
    training margin and drift, each in a panel of its own: stages differ in their loss, and so do units.
    `results` is that of `build_results`, `rows` are those of metrics.jsonl.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # a bare Figure draws with Agg: no display, no global state

    with rc_context(PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        panels = _panels(_by_stage(rows))
        down = 1 + -(-len(panels) // ACROSS)
        figure = Figure(figsize=(13, 4.4 + 2.7 * (down - 1)), dpi=110)
        _draw(figure, results, rows, panels, down)
        pictures = _pictures(figure, [path.suffix.removeprefix(".").lower() for path in paths])
        for path, picture in zip(paths, pictures, strict=True):
            write_atomic(path, picture)
    return paths[0]


def _pictures(figure: Figure, kinds: Sequence[str]) -> list[bytes]:
    """As `figure.savefig` would give them, which lays out each anew and draws it twice for that."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ConstrainedLayoutEngine().execute(figure)
    return [_picture(figure, kind) for kind in kinds]


def _picture(figure: Figure, kind: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.BytesIO()
    if kind == "svg":
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    else:
        FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


@dataclass(frozen=True, slots=True)
class Panel:
    """Figures of one stage that share a unit."""

    title: str
    unit: str
    rows: Sequence[Row]
    lines: Mapping[str, str]
    """Field of the rows -> what a reader calls it."""


def _panels(training: Mapping[str, Sequence[Row]]) -> list[Panel]:
    found = []
    for stage, rows in training.items():
        for title, unit, lines in CURVES:
            known = {name: label for name, label in lines.items() if any(_known(row, name) for row in rows)}
            if known:
                found.append(Panel(shown(f"{stage}: {title}", line=True), unit, rows, known))
    return found


def _draw(figure: Figure, results: Row, rows: Sequence[Row], panels: Sequence[Panel], down: int) -> None:
    title = f"{results['recipe']}: {results['model']} on {results['environment']}"
    figure.suptitle(shown(title, line=True))
    figure.supxlabel(NOTES, fontsize=8, color="#555555")
    grid = figure.add_gridspec(down, ACROSS, height_ratios=[1.5, *[1.0] * (down - 1)])
    checks = [row for row in rows if row["stage"] == "dev" and {"agent", "reward"} <= row.keys()]
    _draw_agents(figure.add_subplot(grid[0, :]), results, checks)
    for number, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(grid[1 + number // ACROSS, number % ACROSS]), panel)


def _draw_agents(axes: Axes, results: Row, checks: Sequence[Row]) -> None:
    """Dev checks in their order, with the test figures of each evaluated agent to their right."""
    test = results["splits"].get("test", {"agents": {}})["agents"]
    labels = [shown(name, line=True) for name in (*(check["agent"] for check in checks), *test)]
    places = range(len(checks))
    if checks:
        rewards = [_number(check["reward"]) for check in checks]
        bounds = [bars(check["reward"], check.get("low"), check.get("high")) for check in checks]
        axes.errorbar(places, rewards, yerr=_columns(bounds), marker="o", capsize=3, label="dev reward")
        successes: Any = [check.get("success") for check in checks]
        axes.plot(places, successes, marker="s", ls="--", label="dev success")
    for name, marker, shift in (("reward", "D", -0.08), ("success", "^", 0.08)):
        agents = [figures[name] for figures in test.values()]
        if agents:
            axes.errorbar(
                [len(checks) + number + shift for number in range(len(agents))],
                [_number(interval["mean"]) for interval in agents],
                yerr=_columns([bars(i["mean"], i["low"], i["high"]) for i in agents]),
                marker=marker,
                ls="none",
                capsize=3,
                label=f"test {name}",
            )
    shipped = (results["shipped"] or {}).get("agent")
    if shipped in test:
        axes.axvline(len(checks) + list(test).index(shipped), color="grey", ls=":", label="shipped")
    if checks and test:
        axes.axvline(len(checks) - 0.5, color="black", lw=0.8)
    for start, count, name in ((0, len(checks), "dev tasks"), (len(checks), len(test), "test tasks")):
        if count:
            axes.text(start - 0.4, 1.0, name, ha="left", va="top", fontsize=9)
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right", fontsize=8)
    axes.set_xlim(-0.5, max(len(labels), 1) - 0.5)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("mean reward, success rate (0 to 1)", fontsize=8)
    _finish(axes, "agents and checkpoints, with 95% intervals over tasks", drawn=bool(labels))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """The lines of a panel over the optimiser steps of its stage; a gap is said to be one."""
    from matplotlib.ticker import MaxNLocator

    steps = [row["step"] for row in panel.rows]
    marker = "." if len(steps) <= 60 else ""
    missing = 0
    for name, label in panel.lines.items():
        values = [float(row[name]) if _known(row, name) else float("nan") for row in panel.rows]
        axes.plot(steps, values, label=label, lw=1.2, marker=marker)
        missing = max(missing, sum(math.isnan(value) for value in values))
    if missing:
        said = f"gaps: no number at {missing} of {len(steps)} steps"
        axes.text(0.98, 0.02, said, ha="right", va="bottom", fontsize=7, transform=axes.transAxes)
    axes.set_xlabel("optimiser step", fontsize=8)
    axes.set_ylabel(panel.unit, fontsize=8)
    # Half of the usual ticks: they take most of the time that a picture takes, and a panel is small.
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=8)
    axes.set_title(panel.title, fontsize=10)
    axes.grid(alpha=0.3)
    if len(panel.lines) > 1:
        axes.legend(fontsize=7)


def _finish(axes: Axes, title: str, *, drawn: bool) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    if drawn:
        axes.legend(fontsize=7)
    else:
        axes.text(0.5, 0.5, "nothing logged yet", ha="center", transform=axes.transAxes)


def _by_stage(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of optimiser steps, grouped by stage in order of appearance."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        if row["stage"] != "dev" and "step" in row and "loss" in row:
            stages.setdefault(row["stage"], []).append(row)
    return stages


def bars(mean: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    """Lengths of an error bar below and above the mean; 0 where a bound is not known."""
    if mean is None or low is None or high is None:
        return 0.0, 0.0
    return max(0.0, mean - low), max(0.0, high - mean)


def _known(row: Row, name: str) -> bool:
    value = row.get(name)
    return isinstance(value, int | float) and math.isfinite(value)


def _columns(bars: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [below for below, _ in bars], [above for _, above in bars]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
