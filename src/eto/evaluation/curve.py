"""The learning-curve picture of a run."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import write_atomic
from eto.data.texts import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
PLAIN: Any = {"text.parse_math": False, "text.usetex": False}
"""Names are text: dollar signs and backslashes in them make no formula."""


def draw_curve(results: Row, rows: Sequence[Row], path: Path) -> Path:
    """Write a PNG of three panels to `path`: dev and test figures per agent, loss, margin and drift.

    `results` is that of `build_results`, `rows` are those of metrics.jsonl.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # a bare Figure draws with Agg: no display, no global state

    with rc_context(PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        content = _picture(Figure(figsize=(15, 4.5), layout="constrained"), results, rows)
    write_atomic(path, content)
    return path


def _picture(figure: Figure, results: Row, rows: Sequence[Row]) -> bytes:
    title = f"{results['recipe']}: {results['model']} on {results['environment']}"
    figure.suptitle(shown(title, line=True))
    agents, loss, margin = figure.subplots(1, 3)
    _draw_agents(
        agents, results, [row for row in rows if row["stage"] == "dev" and {"agent", "reward"} <= row.keys()]
    )
    training = _by_stage(rows)
    _draw_series(loss, training, ("loss",), "loss of each optimiser step")
    preference = {stage: part for stage, part in training.items() if any("margin" in row for row in part)}
    title = "margin (β × nats) and drift (nats)"
    _draw_series(margin, preference, ("margin", "chosen_drift", "rejected_drift"), title)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _draw_agents(axes: Axes, results: Row, checks: Sequence[Row]) -> None:
    """Dev checks in their order, with the test figures of each evaluated agent to their right."""
    test = results["splits"].get("test", {"agents": {}})["agents"]
    labels = [shown(check["agent"], line=True) for check in checks]
    labels += [shown(f"{agent} (test)", line=True) for agent in test]
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
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(-0.02, 1.02)
    _finish(axes, "agents, 95% intervals", drawn=bool(labels))


def _draw_series(axes: Axes, training: Mapping[str, Sequence[Row]], names: Sequence[str], title: str) -> None:
    """The named figures of each stage over its steps, stages side by side."""
    start, drawn = 0, False
    for stage, rows in training.items():
        steps = [start + row["step"] for row in rows]
        for name in names:
            if any(row.get(name) is not None for row in rows):
                label = shown(f"{stage} {name}", line=True)
                axes.plot(steps, [_number(row.get(name)) for row in rows], label=label, lw=1.2)
                drawn = True
        start = max(steps)
    axes.set_xlabel("optimiser step")
    _finish(axes, title, drawn=drawn)


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


def _columns(bars: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [below for below, _ in bars], [above for _, above in bars]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
