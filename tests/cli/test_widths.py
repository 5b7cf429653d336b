"""Every table on terminals of 80 and 60 columns: no line is too long, nothing is cut."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from small_run import KINDS, NAME, make_run
from typer.main import get_command

from eto.cli import app
from eto.cli.progress import Progress
from eto.cli.tables import print_parts
from eto.cli.terminal import terminal
from eto.evaluation import build_results
from eto.evaluation.compared import compared
from eto.evaluation.compared_text import compared_parts
from eto.evaluation.outcomes import outcome_of
from eto.evaluation.parts import Rows
from eto.evaluation.report_text import summary_parts
from eto.evaluation.table import agent_rows

ROOT = Path(__file__).resolve().parents[2]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_path: Path) -> list[Path]:
    """Two runs in one directory, and a recipe above it."""
    place = tmp_path_factory.mktemp("place") / "runs"
    place.mkdir()
    game = f"{ROOT / 'examples' / 'countdown' / 'countdown.py'}:Countdown"
    text = f"name: plan\nmodel: {{path: {tiny_path}}}\nenvironment: {{name: '{game}'}}\n"
    (place.parent / "recipe.yaml").write_text(text)
    return [make_run(place / f"seed-{seed}", seed) for seed in (0, 1)]


@pytest.fixture(params=[80, 60])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Columns of the terminal that commands believe to write to."""
    for name, value in (("COLUMNS", str(request.param)), ("FORCE_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    return request.param


def check(text: str, width: int, *parts: str) -> None:
    """Rows fit the terminal and have all of `parts`. A sentence may be longer: the terminal breaks it,
    so that a command or a path in it can be copied."""
    plain = ESCAPE.sub("", text)
    assert "…" not in plain and "..." not in plain
    assert not re.search(r"^\|", plain, re.MULTILINE), "Markdown on a terminal"
    rows = [line for line in plain.splitlines() if "  " in line.strip() or "─" in line]
    assert [line for line in rows if len(line.rstrip()) > width] == []
    joined = "".join(plain.split())
    for word in " ".join(parts).split():  # heads are broken between words
        assert word in joined, (word, plain)


AGENTS = ("sft", "eto-1", "average reward", "success rate", "steps to success", "0.375", "0.438")
TYPES = tuple(KINDS)
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "report": (("report", "ONE", "--format", "md"), (*AGENTS, *TYPES, "agent minus sft", f"{NAME}-seed0")),
    "pooled": (("report", "ONE", "TWO"), (*AGENTS, *TYPES, f"{NAME}-seed1", "wall time", "shipped")),
    "against": (
        ("report", "ONE", "--against", "TWO"),
        ("agent minus that of seed-1", "p (reward)"),
    ),
    "runs": (("runs", "ALL"), ("seed-0", "seed-1", "finished", "eto-1", "wall time", "0.438")),
    "show": (("show", "ONE"), ("test, beside sft", "eto-1", "gained", "lost", "kept", "missed")),
    "show --gained": (("show", "ONE", "--gained"), (f"toy/{KINDS[1]}/3", "take coin")),
    "doctor": (("doctor",), ("check", "state", "memory", "torch")),
    "plan": (
        ("run", "RECIPE", "--plan", "--hardware", "8xA100-80GB"),
        ("activations", "optimiser", "trained tokens", "generated", "hours", "peak"),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_commands_print(name: str, width: int, runs: list[Path], command) -> None:
    words, parts = TABLES[name]
    recipe = runs[0].parent.parent / "recipe.yaml"
    places = {"ONE": runs[0], "TWO": runs[1], "ALL": runs[0].parent, "RECIPE": recipe}
    done = command(*(places.get(word, word) for word in words))
    assert not done.error.startswith("error"), done.error
    check(done.out, width, *parts)


def test_what_is_printed_after_playing(width: int, runs: list[Path]) -> None:
    """Tables of `evaluate`, `compare-models`, `compare` and `sweep`, of agents that have played."""
    agents = build_results(runs[0])["splits"]["test"]["agents"]
    path = "models/of-somebody/a-model-with-a-long-name"
    file = io.StringIO()
    console = terminal(file, width=width, force_terminal=True, color_system=None)
    print_parts([Rows(*agent_rows({path: agents["sft"]}), title="test tasks")], console)
    print_parts(summary_parts({path: agents["sft"], "eto-1": agents["eto-1"]}, path, "test tasks"), console)
    outcomes = [outcome_of(run, run.parent) for run in runs]
    table = compared({NAME: outcomes, "control": outcomes[:1]}, {NAME: {"sft alone": "control"}})
    print_parts(compared_parts(table, seeds=2), console)
    check(
        file.getvalue(), width, path, NAME, "environment steps", "trained tokens", "tasks and seeds", *TYPES
    )


@pytest.mark.parametrize("stage", ["sft", "evaluate/dpo-1/epoch-2.40/dev"])
def test_progress(width: int, stage: str) -> None:
    file = io.StringIO()
    with Progress(terminal(file, width=width, force_terminal=True, color_system=None)) as progress:
        figures = {"reward": 0.5123, "low": 0.43, "high": 0.59, "tokens_per_second": 1234.0, "failed": 3}
        progress.update(stage, 0, 12_345)
        progress.update(stage, 12_000, 12_345, **figures)
        progress.update(stage, 12_345, 12_345, **figures)
    written = ESCAPE.sub("", file.getvalue()).replace("\r", "\n")
    check(written, width)
    for part in ("reward 0.512 [0.43, 0.59]", "tokens/s 1234", "12345/12345", "failed 3", stage[:26]):
        assert part in written


@pytest.mark.parametrize("name", [None, *get_command(app).commands])
def test_help(name: str | None, width: int, command) -> None:
    printed = command.succeeds(*filter(None, (name,)), "--help")
    assert max(map(len, printed.splitlines())) <= width
    assert not re.search(r"\w\.\.\.$", printed, re.MULTILINE), "a sentence is cut off"
    assert "]...]" not in printed
    if name is None:
        for each in get_command(app).commands.values():
            sentence = each.get_short_help_str(1000)
            assert "".join(sentence.split()) in "".join(printed.split())
