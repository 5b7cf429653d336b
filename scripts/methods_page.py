"""Write the tables of docs/results/methods.md from docs/results/methods.json, a comparison.json of
`eto compare` or `eto join-comparisons`.

    python scripts/methods_page.py [COMPARISON.json]   # that one is kept as docs/results/methods.json first
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eto.data.files import read_json, write_atomic
from eto.evaluation.table import markdown_table
from eto.experiment.comparison import ALL_EXPERTS, SAME_TOKENS

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "docs" / "results" / "methods.json", ROOT / "docs" / "results" / "methods.md"
COSTS = ("environment_steps", "generated_tokens", "trained_tokens")


def tables(comparison: Mapping[str, Any]) -> str:
    """Methods by the success of their last agents, best first; then what each is beside its controls."""
    methods = {label: row for label, row in comparison.items() if row["part"]["of"] == label}
    ranked = sorted(methods, key=lambda label: (methods[label]["by_reward"], -success(methods[label])))
    header = ["", "seeds", "reward", "success", *(name.replace("_", " ") for name in COSTS)]
    header += [f"success minus {SAME_TOKENS}", f"success minus {ALL_EXPERTS}"]
    rows = [[(cell,) for cell in cells(label, methods[label])] for label in ranked]
    controls = [
        [(label,), *((figure(row["last"]["figures"][name]),) for name in ("reward", "success"))]
        for label, row in comparison.items()
        if label not in methods and not row["same_as"] and row["part"]["control"] != SAME_TOKENS
    ]
    return "\n\n".join(
        [markdown_table(header, rows), markdown_table(["further control", "reward", "success"], controls)]
    )


def cells(label: str, row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{label} †" if row["by_reward"] else label
    yield str(row["seeds"])
    yield from (figure(row["last"]["figures"][name]) for name in ("reward", "success"))
    yield from (f"{row['costs'][name]:,.0f}" for name in COSTS)
    for control in (SAME_TOKENS, ALL_EXPERTS):
        yield difference(row["last"]["differences"].get(control, {}).get("success"))


def success(row: Mapping[str, Any]) -> float:
    return float(row["last"]["figures"]["success"]["mean"])


def figure(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:.3f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def difference(entry: Mapping[str, Any] | None) -> str:
    """Mean with the interval over tasks; seed by seed where there are several."""
    if entry is None:
        return "–"
    text = f"{entry['mean']:+.3f} [{entry['low']:+.2f}, {entry['high']:+.2f}]"
    each = " ".join(f"{value:+.2f}" for value in entry["each"])
    return f"{text} ({each})" if len(entry["each"]) > 1 else text


def main() -> None:
    if len(sys.argv) > 1:
        write_atomic(KEPT, json.dumps(read_json(Path(sys.argv[1]))) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition("<!-- tables -->\n")
    _, mark, after = rest.partition("<!-- end of tables -->")
    if not mark:
        sys.exit(f"{PAGE}: no line <!-- tables -->, or none that ends them")
    write_atomic(PAGE, f"{before}<!-- tables -->\n\n{tables(read_json(KEPT))}\n\n{mark}{after}")


if __name__ == "__main__":
    main()
