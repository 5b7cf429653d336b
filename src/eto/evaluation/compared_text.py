"""The tables of a comparison, for files and terminals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eto.evaluation.parts import Notes, Part, Rows, parts_markdown
from eto.evaluation.table import UNKNOWN, Cell, interval_cell

MARK = "†"
"""Beside a figure that is no agent's."""
_COSTS = ("environment_steps", "generated_tokens", "trained_tokens")


def compared_markdown(table: Mapping[str, Any], **options: Any) -> str:
    """`compared_parts` as Markdown."""
    return parts_markdown(compared_parts(table, **options))


def compared_parts(
    table: Mapping[str, Any],
    *,
    seeds: int,
    notes: Sequence[str] = (),
    split: str = "test",
    agents: str = "Shipped agents",
    others: str = "the controls",
) -> list[Part]:
    """`table` (of `compared`) as two tables, figures and costs, differences to `others`, and notes.
    seeds: how many the comparison will have. agents: which agents they are."""
    distinct = {label: row for label, row in table.items() if not row["same_as"]}
    parts: list[Part] = [
        f"{agents} on the {split} tasks, mean and 95% interval over tasks; costs are those of one run.",
        Rows(*_figure_rows(distinct)),
    ]
    rows = list(_difference_rows(distinct))
    if rows:
        parts += [
            f"Differences to {others}, paired by task and seed. 95% intervals: *tasks* speaks of other "
            "tasks and these seeds; *tasks and seeds* also draws the seeds anew, and needs two of them.",
            Rows(_DIFFERENCE_HEADER, rows),
        ]
    said = [*_notes(table, seeds), *notes]
    if said:
        parts.append(Notes(said))
    return parts


def _figure_rows(table: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    header = ["", "seeds", "reward", "success", *(name.replace("_", " ") for name in _COSTS), "minutes"]
    rows: list[list[Cell]] = []
    for label, row in table.items():
        figures = [interval_cell(row["figures"][name], 3, 3) for name in ("reward", "success")]
        costs = [(f"{row['costs'][name]:,.0f}",) for name in _COSTS]
        costs.append((f"{row['costs']['seconds'] / 60:.1f}",))
        name = f"{label} {MARK}" if row["by_reward"] else label
        rows.append([(name,), (str(row["seeds"]),), *figures, *costs])
    # What looks at the reward stands apart, below the agents.
    order = sorted(zip(table.values(), rows, strict=True), key=lambda pair: pair[0]["by_reward"])
    return header, [cells for _, cells in order]


_DIFFERENCE_HEADER = ["", "minus", "figure", "mean", "tasks", "tasks and seeds", "seed by seed"]


def _difference_rows(table: Mapping[str, Any]) -> Iterator[list[Cell]]:
    for label, row in table.items():
        for control, figures in row["differences"].items():
            for name, entry in figures.items():
                if entry["mean"] is None:
                    continue
                bounds = [_bounds(entry["low"], entry["high"])]
                bounds.append(_bounds(entry["seeds_low"], entry["seeds_high"]))
                each = " ".join(UNKNOWN if value is None else f"{value:+z.3f}" for value in entry["each"])
                mean = f"{entry['mean']:+z.3f}"
                yield [(label,), (control,), (name,), (mean,), *((text,) for text in bounds), (each,)]


def _bounds(low: float | None, high: float | None) -> str:
    return UNKNOWN if low is None or high is None else f"{low:+z.3f} to {high:+z.3f}"


def _notes(table: Mapping[str, Any], seeds: int) -> Iterator[str]:
    if any(row["by_reward"] for row in table.values()):
        yield f"{MARK} of each task the best of several episodes, chosen by its reward: a bound, no agent"
    for label, row in table.items():
        if row["same_as"]:
            yield f"{label}: the same runs as {row['same_as']}"
    behind = [f"{label} {row['seeds']}" for label, row in table.items() if row["seeds"] < seeds]
    if behind:
        yield f"not finished: of {seeds} seeds there are so far: {', '.join(behind)}"
