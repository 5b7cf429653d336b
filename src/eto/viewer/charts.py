"""Rewards, training curves and changes of log-probs as SVG, in the page's own colours.

They are drawn here and not by a charting library: a page then needs no network, no build and no script, a
chart stays what it is in a mailed file, and a screen reader is told what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from typing import Any, TypeGuard

from eto.data.pair_scores import PairScores

WIDTH, HEIGHT = 560, 282
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 70
"""There is room for letters of 17 units: on a phone the picture is shown at 0.6 of its size."""
MOST_POINTS = 400
"""Points of a curve that are drawn; a longer one is averaged in steps."""
MOST_MARKS = 60
"""Points up to which each is a mark that tells its value."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to places on the page."""

    low: float
    high: float
    step: float
    """From one line of the grid to the next."""

    @classmethod
    def over(cls, values: Sequence[float]) -> Scale:
        """From a round figure below all values to one above, in steps of 1, 2 or 5 times a power of ten."""
        low, high = min(values), max(values)
        span = (high - low) or abs(high) or 1.0
        power = 10.0 ** floor(log10(span))
        step = next(power * part for part in (0.2, 0.5, 1.0, 2.0) if span / (power * part) <= 5)
        first, last = floor(low / step), ceil(high / step)
        return cls(first * step, (last if last > first else first + 1) * step, step)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.low) / (self.high - self.low))

    @property
    def ticks(self) -> list[float]:
        first, last = round(self.low / self.step), round(self.high / self.step)
        return [number * self.step for number in range(first, last + 1)]


def rewards_chart(
    agents: Mapping[str, Any], title: str, each: Mapping[str, Sequence[tuple[str, float]]] | None = None
) -> str:
    """Each agent's mean reward with its 95% interval, in their order; "" where none is known.

    each: agent -> (run, mean reward) of the runs that are pooled in it, which stand beside it.
    """
    known = {name: each["reward"] for name, each in agents.items() if each["reward"]["mean"] is not None}
    if not known:
        return ""
    scale = Scale(0.0, 1.0, 0.25)
    parts, said_all = _frame(scale, "mean reward (0 to 1)", "agent"), []
    step = (WIDTH - LEFT - RIGHT) / len(known)
    for number, (name, reward) in enumerate(known.items()):
        x, y = LEFT + step * (number + 0.5), scale.y(reward["mean"])
        said = f"{name}: {reward['mean']:.3f}"
        if reward["low"] is not None:
            low, high = scale.y(reward["low"]), scale.y(reward["high"])
            parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
            said += f", 95% interval {reward['low']:.3f} to {reward['high']:.3f}"
        said_all.append(said)
        parts.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(said)}</title></circle>'
        )
        for run, mean in (each or {}).get(name, ()):
            parts.append(
                f'<circle class="single" cx="{x + 12:.1f}" cy="{scale.y(mean):.1f}" r="2.5">'
                f"<title>{escape(f'{name} in {run}: {mean:.3f}')}</title></circle>"
            )
        fits = max(4, int(step / 9))
        parts.append(_label(x, HEIGHT - BOTTOM + 18, name if len(name) <= fits else f"{name[: fits - 1]}…"))
        parts.append(_label(x, HEIGHT - BOTTOM + 36, f"{reward['mean']:.3f}"))
    return _svg(parts, title, "; ".join(said_all))


def curve_chart(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], title: str, unit: str) -> str:
    """Figures of a stage's optimiser steps, a line each; "" where there are none.

    names: field of `rows` -> what a reader calls it; unit: of the vertical axis. A line that has gaps, for
    steps at which the figure was no number, is cut there.
    """
    lines = {label: _runs(rows, name) for name, label in names.items()}
    lines = {label: runs for label, runs in lines.items() if sum(map(len, runs)) > 1}
    if not lines:
        return ""
    every = {label: [point for run in runs for point in run] for label, runs in lines.items()}
    steps = [step for points in every.values() for step, _ in points]
    first, last = min(steps), max(steps)
    scale = Scale.over([value for points in every.values() for _, value in points])
    parts = _frame(scale, unit, "optimiser step")
    across, length = WIDTH - LEFT - RIGHT, last - first or 1.0
    for number, (label, runs) in enumerate(lines.items()):
        for run in runs:
            path = " ".join(f"{LEFT + across * (s - first) / length:.1f},{scale.y(v):.1f}" for s, v in run)
            parts.append(
                f'<polyline class="line line{number}" points="{path}">'
                f"<title>{escape(label)}</title></polyline>"
            )
        if len(every[label]) <= MOST_MARKS:
            parts += [
                f'<circle class="mark line{number}" cx="{LEFT + across * (step - first) / length:.1f}" '
                f'cy="{scale.y(value):.1f}" r="2.5">'
                f"<title>{escape(label)}, step {step:g}: {value:.4g}</title></circle>"
                for step, value in every[label]
            ]
        if len(lines) > 1:
            place = f'x="{LEFT + 110 * number}" y="{HEIGHT - 4}"'
            parts.append(f'<text class="legend line{number}" {place}>— {escape(label)}</text>')
    if gaps := max(sum(not _number(row.get(name)) for row in rows) for name in names if names[name] in lines):
        said = f"gaps: no number at {gaps} of {len(rows)} steps"
        parts.append(f'<text class="legend end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{said}</text>')
    for part in range(3):
        step = first + (last - first) * part / 2
        x = LEFT + across * part / 2
        anchor = ("start", "middle", "end")[part]
        parts.append(
            f'<text class="step-tick {anchor}" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{step:.0f}</text>'
        )
    ends = "; ".join(
        f"{label}: {points[0][1]:.4g} at step {points[0][0]:g}, {points[-1][1]:.4g} at step {points[-1][0]:g}"
        for label, points in every.items()
    )
    return _svg(parts, title, ends)


def changes_chart(scores: PairScores) -> str:
    """By how much training changed the log-prob of each turn of both sides, in nats; "" without turns."""
    sides = (("chosen", scores.chosen.changes), ("rejected", scores.rejected.changes))
    values = [value for _, changes in sides for value in changes if _number(value)]
    if not values:
        return ""
    scale = Scale.over([0.0, *values])
    turns = max(len(changes) for _, changes in sides)
    step = (WIDTH - LEFT - RIGHT) / turns
    parts = _frame(scale, "change of log-prob (nats)", "turn")
    zero, width = scale.y(0.0), min(18.0, step * 0.38)
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    for number, (side, changes) in enumerate(sides):
        for turn, value in enumerate(changes):
            if not _number(value):
                continue
            x = LEFT + step * (turn + 0.5) + (number - 1) * width
            top, height = min(zero, scale.y(value)), max(1.0, abs(zero - scale.y(value)))
            parts.append(
                f'<rect class="bar {side}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}">'
                f"<title>{side}, turn {turn + 1}: {value:+z.2f} nats</title></rect>"
            )
        place = f'x="{LEFT + 110 * number}" y="{HEIGHT - 4}"'
        parts.append(f'<text class="legend {side}" {place}>■ {side}</text>')
    every = -(-turns // 16)
    for turn in range(0, turns, every):
        parts.append(_label(LEFT + step * (turn + 0.5), HEIGHT - BOTTOM + 18, str(turn + 1)))
    name = f"change of each turn's log-prob by training, {scores.before} to {scores.after}"
    totals = f"chosen {scores.chosen.change:+z.2f} nats, rejected {scores.rejected.change:+z.2f} nats"
    return _svg(parts, name, totals)


Points = list[tuple[float, float]]


def _runs(rows: Sequence[Mapping[str, Any]], name: str) -> list[Points]:
    """(step, value) of a figure, cut where it is no number."""
    runs: list[Points] = [[]]
    for row in rows:
        if _number(row.get(name)) and _number(row.get("step")):
            runs[-1].append((float(row["step"]), float(row[name])))
        elif runs[-1]:
            runs.append([])
    size = -(-sum(map(len, runs)) // MOST_POINTS)
    return [_thinned(run, size) for run in runs if run]


def _thinned(points: Points, size: int) -> Points:
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and isfinite(value)


def _frame(scale: Scale, upward: str, across: str) -> list[str]:
    """Grid, axes and what they count."""
    parts = []
    for tick in scale.ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 5:.1f}">{tick:.3g}</text>')
    bottom, middle = HEIGHT - BOTTOM, TOP + (HEIGHT - TOP - BOTTOM) / 2
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    turned = f'transform="rotate(-90 14 {middle:.0f})"'
    parts.append(f'<text class="axis-name" x="14" y="{middle:.0f}" {turned}>{escape(upward)}</text>')
    parts.append(
        f'<text class="axis-name" x="{LEFT + (WIDTH - LEFT - RIGHT) / 2:.0f}" '
        f'y="{bottom + (56 if across == "agent" else 38)}">{escape(across)}</text>'
    )
    return parts


def _label(x: float, y: float, text: str) -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str, description: str) -> str:
    """description: what the picture shows, for those who do not see it."""
    name = escape(title, quote=True)
    attributes = f'class="chart" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f"<svg {attributes}><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
