"""Tables of a terminal: columns where they fit, blocks of lines where they do not, and nothing cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eto.evaluation.table import Cell, difference_rows, interval_cell, rich_table

HEADER = ["run", "method", "reward", "success", "wall time"]
ROWS: list[list[Cell]] = [
    [
        ("runs/a-name-without-any-place-to-break",),
        ("early_experience",),
        ("0.612", "0.51", "0.71"),
        ("–",),
        ("9 s",),
    ]
]


def printed(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(rich_table(HEADER, ROWS))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_nothing_is_cut(width: int) -> None:
    lines = printed(width)
    assert all(len(line) <= width for line in lines)
    text = "".join("".join(lines).split())
    for part in ("runs/a-name-without-any-place-to-break", "early_experience", "0.612", "0.51", "0.71", "9s"):
        assert part in text
    assert "…" not in text


def test_columns_where_there_is_room_and_blocks_where_not() -> None:
    assert printed(120)[0].split() == ["run", "method", "reward", "success", "wall", "time"]
    assert printed(60)[:3] == [
        "run: runs/a-name-without-any-place-to-break",
        "  method: early_experience",
        "  reward: 0.612 [0.51, 0.71]",
    ]


@pytest.mark.parametrize(
    ("p", "shown"), [(None, "–"), (0.0001, "<0.001"), (0.0005, "0.001"), (0.25, "0.250")]
)
def test_a_small_p_is_not_zero(p, shown):
    interval = {"mean": 0.1, "low": 0.0, "high": 0.2, "n": 4}
    difference = dict.fromkeys(("reward", "final_reward", "success"), interval) | {
        "reward": interval | {"p": p}
    }
    _, [row] = difference_rows({"eto-1": {"difference": difference}}, "sft")
    assert row[-1] == (shown,)


def test_what_rounds_to_zero_has_no_minus():
    interval = {"mean": -0.0001, "low": -0.0004, "high": 0.3}
    assert interval_cell(interval, 3, 3, sign="+") == ("+0.000", "+0.000", "+0.300")
