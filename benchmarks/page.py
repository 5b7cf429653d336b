"""docs/results/speed.md out of the JSON files beside it, and the same tables for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.frame import RESULTS, Outcome

ORDER = (
    "rollouts",
    "engines",
    "dpo",
    "sft",
    "limit",
    "growth",
    "environments",
    "experts",
    "alfworld",
    "webshop",
    "start_up",
)


def write_page() -> None:
    """Write docs/results/speed.md again from every docs/results/speed/*.json."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")}
    parts = [
        "# Speed",
        "Written by `make bench` (`python -m benchmarks`); one section a benchmark, each with its own date "
        "and hardware. Contestants take turns in one process; figures are medians, with the extremes in "
        "brackets. A ratio is met or missed against the target it was given beforehand.",
    ]
    parts += [section(found[name]) for name in ORDER if name in found]
    RESULTS.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def section(record: Mapping[str, Any]) -> str:
    """One benchmark as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        f"## {record['title']}",
        record["setting"],
        f"{record['date']}, {record['hardware']}; {versions}; `{record['command']}`, {record['seconds']} s.",
    ]
    if record["ratios"]:
        parts.append(table(("ratio", "value", "target", ""), ratio_cells(record["ratios"])))
    if record["rows"]:
        parts.append(table(("contestant", "", "median", "repetitions"), row_cells(record["rows"])))
    if record["same"]:
        parts.append(f"Same result: {record['same']}")
    parts += [f"![{name}](speed/{name})" for name in record["pictures"]]
    parts += [f"- {note}" for note in record["notes"]]
    return "\n\n".join(parts)


def terminal(outcome: Outcome) -> str:
    """An outcome as plain text."""
    record = outcome.to_dict()
    lines = [outcome.title, f"  {outcome.setting}"]
    lines += ["  " + "  ".join(cells) for cells in row_cells(record["rows"])]
    lines += ["  " + "  ".join(cells) for cells in ratio_cells(record["ratios"])]
    if outcome.same:
        lines.append(f"  same result: {outcome.same}")
    return "\n".join(lines + [f"  {note}" for note in outcome.notes])


def ratio_cells(ratios: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    cells = []
    for ratio in ratios:
        target, verdict = "", ""
        if ratio["target"] is not None:
            target = f"{'≤' if ratio['at_most'] else '≥'} {figure(ratio['target'])}"
            verdict = "met" if ratio["met"] else "missed"
        cells.append((ratio["what"], figure(ratio["value"]), target, verdict))
    return cells


def row_cells(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            row["contestant"],
            row["what"],
            f"{figure(row['median'])} [{figure(row['low'])}, {figure(row['high'])}]",
            str(row["repetitions"]),
        )
        for row in rows
    ]


def table(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(value: float) -> str:
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{abs(value):e}".split("e")[1]))
    return f"{value:.{digits}f}"
