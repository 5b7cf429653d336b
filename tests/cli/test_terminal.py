"""Nothing that others wrote takes effect on the terminal or in a report."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import pytest
from rich.table import Table

from eto.cli.progress import Progress
from eto.cli.tables import print_parts
from eto.cli.terminal import terminal
from eto.evaluation import draw_curve, markdown
from eto.evaluation.pooled import comparison_markdown
from eto.evaluation.report_text import report_parts

SOURCE = Path(__file__).resolve().parents[2] / "src" / "eto"
HOSTILE = [
    *("search[red mug]", "web/[/b]", "[bold red]", "[link=x]", ":smile: :warning:", "$x_{$ \\frac{"),
    *("{} %s %(a)d", "a|b", "100%", "[", "]", "\\[b]", "`tick`", "http://x.y 12 'q' None True"),
]
CONTROLS = ["\x1b[2J", "a\rb", "\x07", "\x9b31m", "cut \ud83d"]
INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3, "p": 0.5}


def printed(what: object, **options: object) -> str:
    file = io.StringIO()
    terminal(file, width=200, **options).print(what)
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "color_system": "truecolor"}])
def test_text_is_printed_as_it_is(text, options):
    assert printed(text, **options) == f"{text}\n"
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    assert printed(table).count(text) == 3
    file = io.StringIO()
    terminal(file, width=200).rule(text)
    assert f" {text} " in file.getvalue()
    progress = Progress(terminal(file, width=200))
    progress.say(text)
    progress.update(text, 1, 1, model=text)
    assert file.getvalue().count(text) == 4


@pytest.mark.parametrize("text", CONTROLS)
def test_control_characters_and_halves_are_shown_and_do_nothing(text):
    table = Table()
    table.add_column(text)
    table.add_row(text)
    for shown in (printed(text), printed(table)):
        shown.encode()
        assert not set(shown) & {"\x1b", "\r", "\x07", "\x9b"}
        assert "\\" in shown or "\ufffd" in shown


ACTED = {"repeated": 0.1, "malformed": 0.0, "verb_share": 0.5, "action_entropy": 1.0}


def figures(kind: str) -> dict:
    names = ("reward", "final_reward", "success", "steps_to_success", "turns")
    found = dict.fromkeys(names, INTERVAL) | {"tasks": 3, "disasters": 0, "failed": 0}
    return {**found, "kinds": {kind: found}, "difference": dict.fromkeys(names, INTERVAL)}


def results(text: str) -> dict:
    return {
        **{"recipe": text, "model": text, "environment": text, "seeds": {"seed": 0}, "guard": {text: text}},
        "hardware": {"cpus": 2, "memory_gb": 8, "platform": text, "versions": {text: text}},
        "splits": {"test": {"agents": {text: figures(text)}}},
        "pairs": {"1": {"pairs": {text: 2}}},
        "shipped": {"agent": text, "reason": text},
        "behaviour": {"test": {text: ACTED | {"verb": text}}},
        "bounds": {},
        "baseline": text,
        "stages": [{"stage": text, "seconds": 1.0}],
        "seconds": 1.0,
        "taken_from": {"directory": text, "stages": [text]},
    }


def bars(lines: list[str]) -> list[int]:
    """Of each line of Markdown, the bars that separate cells."""
    return [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines]


def parts_printed(found: dict, **options: object) -> str:
    file = io.StringIO()
    print_parts(report_parts(found), terminal(file, width=200, color_system=None, **options))
    return file.getvalue()


@pytest.mark.parametrize("text", [*HOSTILE, *CONTROLS, "two\nlines", "  "])
def test_a_report_holds_names_of_any_content(text, tmp_path):
    found = results(text)
    page = markdown(found)
    page.encode()
    tables = [line for line in page.splitlines() if line.startswith("|")]
    # Eight columns of figures, six of differences, three of task types, five of actions, two of times: a name
    # makes no more.
    assert bars(tables) == [9] * 3 + [7] * 3 + [4] * 3 + [6] * 3 + [3] * 4
    piped, shown = (parts_printed(found, force_terminal=each) for each in (False, True))
    tables = [line for line in piped.splitlines() if line.startswith("|")]
    assert bars(tables) == [9] * 3 + [7] * 3 + [4] * 3
    assert "|---" not in shown
    for each in (piped, shown):
        each.encode()
        assert not set(each) & set("\r\x07\x9b")
    comparison_markdown({text: figures(text)["difference"]}, [tmp_path / text.replace("/", "")]).encode()
    rows = [
        {"stage": text, "step": 1, "loss": 1.0, "margin": 0.1},
        {"stage": "dev", "agent": text, "reward": 0.5},
    ]
    assert draw_curve(found, rows, tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_prints_past_the_terminal():
    """`print`, a console of one's own, `typer.echo` of a user's text: all go through `cli/terminal.py`."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name in ("terminal.py", "worker.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "Console", "rich.print"):
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert found == []
