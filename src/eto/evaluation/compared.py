"""Methods side by side: reward with its interval, differences to the controls, and costs, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eto.evaluation.costs import Costs, costs_of
from eto.evaluation.pooled import SHIPPED, compare_runs, pool_runs
from eto.evaluation.table import markdown_table


def compared(
    runs: Mapping[str, Sequence[Path]], controls: Mapping[str, Mapping[str, str]], split: str = "test"
) -> dict[str, Any]:
    """For each label the shipped agents of its runs, pooled over seeds, with costs and, by the control's
    name, the paired differences over tasks and seeds.

    controls: label -> control's name -> the control's label. Raises `InputError` for a run that is not
    finished.
    """
    table: dict[str, Any] = {}
    for label, directories in runs.items():
        pooled = pool_runs(directories, split)
        costs = [costs_of(directory) for directory in directories]
        table[label] = {
            "shipped": [run["shipped"]["agent"] for run in pooled["runs"]],
            "figures": pooled["agents"][SHIPPED],
            "costs": {name: _mean(costs, name) for name in Costs.__slots__},
            "differences": {
                control: compare_runs(directories, runs[other], split)[SHIPPED]
                for control, other in controls.get(label, {}).items()
            },
        }
    return table


def compared_markdown(table: Mapping[str, Any], split: str = "test") -> str:
    """One row a label: reward and success with 95% intervals, differences to the controls, costs a run."""
    controls = list(dict.fromkeys(name for row in table.values() for name in row["differences"]))
    header = ["", "reward", "success", *(f"reward minus {name}" for name in controls)]
    header += ["environment steps", "generated tokens", "trained tokens", "minutes"]
    rows = []
    for label, row in table.items():
        figures, costs = row["figures"], row["costs"]
        cells = [_interval(figures["reward"]), _interval(figures["success"])]
        for control in controls:
            entry = row["differences"].get(control)
            cells.append(_interval(entry["reward"], signed=True) if entry else "")
        cells += [
            f"{costs[name]:,.0f}" for name in ("environment_steps", "generated_tokens", "trained_tokens")
        ]
        cells.append(f"{costs['seconds'] / 60:.1f}")
        rows.append([(label,), *((cell,) for cell in cells)])
    seeds = max(len(row["shipped"]) for row in table.values())
    title = f"{split} tasks, {seeds} seed{'s' * (seeds > 1)}; shipped agents; 95% intervals over tasks"
    return markdown_table(header, rows, title) + "\n"


def _interval(figure: Mapping[str, Any], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean = format(figure["mean"], f"{sign}.3f")
    return f"{mean} [{format(figure['low'], f'{sign}.3f')}, {format(figure['high'], f'{sign}.3f')}]"


def _mean(costs: Sequence[Costs], name: str) -> float:
    return sum(getattr(each, name) for each in costs) / len(costs)
