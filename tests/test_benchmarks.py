"""What all benchmarks share: turns, ratios, pages, names. Nothing is measured and no model loaded."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks import page
from benchmarks.frame import Outcome, Ratio, Row, alternate, median_ratio, rows

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def contestants(*names: str):
    """Contestants whose figure is the number of their call, and the list of calls in order."""
    calls: list[str] = []

    def contestant(name: str):
        def play() -> float:
            calls.append(name)
            return float(calls.count(name))

        return play

    return {name: contestant(name) for name in names}, calls


def outcome(**changes) -> Outcome:
    given = {
        "title": "Steps",
        "setting": "One model.",
        "rows": [Row("eto", "steps/s", 80.0, 75.5, 91.25, 5)],
        "ratios": [
            Ratio("eto over peer", 7.5, 8.0),
            Ratio("seconds", 0.25, 0.5, at_most=True),
            Ratio("x", 2.0),
        ],
        "same": "all scores are equal.",
        "notes": ["A note."],
        "pictures": ["steps.png"],
    }
    return Outcome(**given | changes)


def record(**changes) -> dict:
    circumstances = {
        "date": "2026-01-02",
        "command": "python -m benchmarks steps",
        "seconds": 12,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "hardware": "2 cores",
    }
    return json.loads(json.dumps(outcome(**changes).to_dict() | circumstances))


def test_contestants_take_turns_in_an_order_that_turns_round():
    playing, calls = contestants("a", "b")
    assert alternate(playing, 3) == {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}
    assert calls == ["a", "b", "b", "a", "a", "b"]


def test_warm_up_rounds_are_played_and_thrown_away(capsys):
    playing, calls = contestants("a", "b")
    assert alternate(playing, 2, warm_up=1) == {"a": [2.0, 3.0], "b": [2.0, 3.0]}
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_rows_and_ratios_are_of_medians():
    found = {"eto": [9.0, 2.0, 4.0], "peer": [1.0, 3.0]}
    assert rows(found, "s") == [Row("eto", "s", 4.0, 2.0, 9.0, 3), Row("peer", "s", 2.0, 1.0, 3.0, 2)]
    assert median_ratio(found, "eto", "peer") == 2.0
    assert median_ratio(found, "peer", "eto") == 0.5


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(8.0, False, True), (7.9, False, False), (8.0, True, True), (8.1, True, False)],
)
def test_a_target_is_met_in_its_direction(value: float, at_most: bool, met: bool):
    assert Ratio("x", value, 8.0, at_most=at_most).met is met


def test_a_ratio_without_target_is_neither():
    assert Ratio("x", 1.0).met is None


def test_outcomes_are_json_with_their_verdicts():
    assert [ratio["met"] for ratio in record()["ratios"]] == [False, True, None]
    assert record()["rows"][0]["median"] == 80.0


def test_a_section_has_everything():
    assert page.section(record()) == (
        "## Steps\n\nOne model.\n\n"
        "2026-01-02, 2 cores; python 3.11.7, torch 2.13.0; `python -m benchmarks steps`, 12 s.\n\n"
        "| ratio | value | target |  |\n| --- | --- | --- | --- |\n"
        "| eto over peer | 7.50 | ≥ 8.00 | missed |\n| seconds | 0.250 | ≤ 0.500 | met |\n"
        "| x | 2.00 |  |  |\n\n"
        "| contestant |  | median | repetitions |\n| --- | --- | --- | --- |\n"
        "| eto | steps/s | 80.0 [75.5, 91.2] | 5 |\n\n"
        "Same result: all scores are equal.\n\n![steps.png](speed/steps.png)\n\n- A note."
    )


def test_a_section_leaves_out_what_there_is_not():
    text = page.section(record(rows=[], ratios=[], same="", notes=[], pictures=[]))
    assert text.count("\n\n") == 2
    assert "|" not in text


def test_the_terminal_shows_the_same_figures():
    lines = page.terminal(outcome()).splitlines()
    assert lines[:3] == ["Steps", "  One model.", "  eto  steps/s  80.0 [75.5, 91.2]  5"]
    assert "  eto over peer  7.50  ≥ 8.00  missed" in lines
    assert lines[-2:] == ["  same result: all scores are equal.", "  A note."]


def test_the_page_is_made_of_every_result_in_a_fixed_order(tmp_path: Path, monkeypatch):
    results = tmp_path / "speed"
    results.mkdir()
    for name in ("start_up", "rollouts", "unknown"):
        (results / f"{name}.json").write_text(json.dumps(record(title=f"About {name}")))
    monkeypatch.setattr(page, "RESULTS", results)
    page.write_page()
    text = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert text.startswith("# Speed\n\n")
    assert [line for line in text.splitlines() if line[:3] == "## "] == [
        "## About rollouts",
        "## About start_up",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1234"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.01234, "0.0123"),
        (-0.5, "-0.500"),
        (1e-5, "0.0000100"),
    ],
)
def test_figures_have_three_digits_and_no_exponent(value: float, text: str):
    assert page.figure(value) == text


def test_an_unknown_name_is_told_with_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "dpo", "speed"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    said = capsys.readouterr()
    assert "unknown benchmark speed; known: start_up, environments" in said.err
    assert said.out == ""


def test_a_quick_benchmark_writes_nothing_and_a_full_one_its_json(tmp_path: Path, monkeypatch, capsys):
    module = SimpleNamespace(run=lambda quick: outcome(title="Quick" if quick else "Full"))
    monkeypatch.setattr(command, "importlib", SimpleNamespace(import_module=lambda name: module))
    monkeypatch.setattr(command, "circumstances", lambda name, seconds: {})
    monkeypatch.setattr(command, "RESULTS", tmp_path / "speed")
    monkeypatch.setattr(command, "write_page", lambda: None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "dpo", "--quick"])
    command.main()
    assert "Quick" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys, "argv", ["benchmarks", "dpo"])
    command.main()
    written = json.loads((tmp_path / "speed" / "dpo.json").read_text(encoding="utf-8"))
    assert (written["name"], written["title"]) == ("dpo", "Full")


def test_every_name_is_a_module_with_a_run_and_has_its_place_on_the_page():
    assert sorted(command.NAMES) == sorted(page.ORDER)
    for name in command.NAMES:
        tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
        [run] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
        assert [each.arg for each in run.args.args] == ["quick"]
        assert ast.get_docstring(tree)
