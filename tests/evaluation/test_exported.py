"""Tables as CSV and LaTeX, with names of any content."""

from __future__ import annotations

import csv
import io

import pytest

from eto.evaluation.exported import csv_table, latex_table, latex_text

HEADER = ["agent", "tasks", "reward"]
ROWS = [
    [("sft",), ("100",), ("0.670", "0.62", "0.71")],
    [("=HYPERLINK(1)",), ("5",), ("–",)],
    [('a,"b"\nc',), ("5",), ("+0.010", "-0.020", "+0.040")],
]


def test_csv_has_a_column_for_each_bound_and_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(csv_table(HEADER, ROWS))))
    assert rows == [
        ["agent", "tasks", "reward", "reward low", "reward high"],
        ["sft", "100", "0.670", "0.62", "0.71"],
        ["'=HYPERLINK(1)", "5", "", "", ""],
        ['a,"b"\\nc', "5", "+0.010", "-0.020", "+0.040"],
    ]


def test_latex_by_hand() -> None:
    text = latex_table(
        ["a_b", "50%"], [[("x&y",), ("0.5", "0.4", "0.6")], [("z",), ("-0.1", "-0.2", "+0.0")]]
    )
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & 50\% \\",
        r"\midrule",
        r"x\&y & 0.5 {[0.4, 0.6]} \\",
        r"z & $-0.1$ {[$-0.2$, $+0.0$]} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("$x^2$ ~#", r"\$x\textasciicircum{}2\$ \textasciitilde{}\#"),
        ("a\n\x1b[0m", r"a\textbackslash{}n\textbackslash{}x1b[0m"),
    ],
)
def test_names_are_no_commands(text: str, escaped: str) -> None:
    assert latex_text(text) == escaped
