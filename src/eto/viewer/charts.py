"""Rewards and training curves as SVG, in the page's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 44
MOST_POINTS = 400
"""Points of a curve that are drawn; a longer one is averaged in steps."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to places on the page."""

    low: float
    high: float

    def y(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.low) / span)


def rewards_chart(agents: Mapping[str, Any], title: str) -> str:
    """Each agent's mean reward with its 95% interval, in their order."""
    known = {name: each["reward"] for name, each in agents.items() if each["reward"]["mean"] is not None}
    if not known:
        return ""
    scale, parts = Scale(0.0, 1.0), _frame(Scale(0.0, 1.0), (0, 0.25, 0.5, 0.75, 1))
    step = (WIDTH - LEFT - RIGHT) / len(known)
    for number, (name, reward) in enumerate(known.items()):
        x, y = LEFT + step * (number + 0.5), scale.y(reward["mean"])
        said = f"{name}: {reward['mean']:.3f}"
        if reward["low"] is not None:
            low, high = scale.y(reward["low"]), scale.y(reward["high"])
            parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
            said += f" [{reward['low']:.3f}, {reward['high']:.3f}]"
        parts.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(said)}</title></circle>'
        )
        label = name if len(name) <= 16 else f"{name[:15]}…"
        parts.append(_label(x, HEIGHT - BOTTOM + 16, label))
        parts.append(_label(x, HEIGHT - BOTTOM + 31, f"{reward['mean']:.3f}"))
    return _svg(parts, title)


def curve_chart(rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> str:
    """Figures of a stage's optimiser steps, a line each; "" where there are none."""
    lines = {name: _points(rows, name) for name in names}
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return ""
    values = [value for points in lines.values() for _, value in points]
    scale = Scale(min(values), max(values))
    last = max(step for points in lines.values() for step, _ in points)
    ticks = [scale.low + (scale.high - scale.low) * part / 4 for part in range(5)]
    parts = _frame(scale, ticks)
    across = WIDTH - LEFT - RIGHT
    for number, (name, points) in enumerate(lines.items()):
        path = " ".join(f"{LEFT + across * step / last:.1f},{scale.y(value):.1f}" for step, value in points)
        parts.append(
            f'<polyline class="line line{number}" points="{path}"><title>{escape(name)}</title></polyline>'
        )
        place = f'x="{LEFT + 110 * number}" y="{HEIGHT - 6}"'
        parts.append(f'<text class="legend line{number}" {place}>{escape(name)}</text>')
    parts.append(_label(WIDTH - RIGHT - 30, HEIGHT - BOTTOM + 16, f"step {last:g}"))
    return _svg(parts, title)


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    found = [
        (float(row["step"]), float(row[name]))
        for row in rows
        if _number(row.get(name)) and _number(row.get("step"))
    ]
    size = -(-len(found) // MOST_POINTS)
    if size <= 1:
        return found
    groups = [found[start : start + size] for start in range(0, len(found), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")


def _frame(scale: Scale, ticks: Sequence[float]) -> list[str]:
    parts = []
    for tick in ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}">{tick:.3g}</text>')
    return parts


def _label(x: float, y: float, text: str) -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str) -> str:
    name = escape(title, quote=True)
    attributes = f'class="chart" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f"<svg {attributes}>{''.join(parts)}</svg>"
