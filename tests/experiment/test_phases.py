"""Phases and stages as values: one text on disk for each, and back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from eto.methods import METHODS, declared_stages, load_method
from eto.protocols import Stage
from eto.types import Phase, checkpoint_name

SOURCE = Path(__file__).resolve().parents[2] / "src" / "eto"


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        (Phase.expert(), "expert"),
        (Phase.explore(12), "explore/12"),
        (Phase.evaluate("sft", "dev"), "evaluate/sft/dev"),
        (Phase.evaluate(checkpoint_name("dpo-1", 2), "dev"), "evaluate/dpo-1/epoch-2/dev"),
        (Phase("train"), "train"),
    ],
)
def test_a_phase_is_written_and_read(phase: Phase, text: str) -> None:
    assert phase.text == text
    assert Phase.parse(text) == phase


def test_a_stage_plays_its_own_phases_alone() -> None:
    first = Stage.prefer("eto-1", 1)
    assert first.plays(Phase.parse("evaluate/dpo-1/epoch-10/dev")) and first.plays_dev
    assert not first.plays(Phase.parse("evaluate/dpo-1/epoch-10/test"))
    assert not first.plays(Phase.parse("evaluate/dpo-10/epoch-1/dev"))
    assert not first.plays(Phase.parse("evaluate/eto-1/dev"))
    explored = Stage.explore(1)
    assert explored.plays(Phase.explore(1)) and not explored.plays(Phase.explore(11))
    assert not explored.plays_dev


def test_the_stages_of_the_paper() -> None:
    stages = declared_stages(load_method("eto").settings(iterations=2))
    rounds = [f"{step}-{n}" for n in (1, 2) for step in ("explore", "contrast", "dpo")]
    assert [stage.name for stage in stages] == ["sft", "dev-sft", *rounds]
    assert [stage.agent for stage in stages if stage.agent] == ["sft", "eto-1", "eto-2"]
    assert [stage.iteration for stage in stages] == [None, None, 1, 1, 1, 2, 2, 2]


# What runs, resumes, forks and reports methods knows none by name: neither it nor its agents and stages.
NEUTRAL = ["data/store.py", "cli/run.py", "cli/progress.py", "experiment/**/*.py", "evaluation/**/*.py"]
EARLIER = {"recipe.py", "recipe_earlier.py"}
"""Read recipes of the form before methods, which names their sections."""
# A method's agents are named after it; "eto" alone is the program.
METHOD_NAMES = {spelt for name in METHODS for spelt in (name, name.replace("_", "-"))} - {"eto"}
WORDS = "|".join(sorted(METHOD_NAMES | {"dpo"}))
NAMES = re.compile(rf"(?<![\w/])(({WORDS})\b|eto-(?!agent)|explore-|contrast-|dpo-|dev-|explore/|evaluate/)")


def texts(source: str) -> list[tuple[int, str]]:
    """(line, text) of the literals of a module, those that document something left out."""
    tree = ast.parse(source)
    documents = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    constants = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in documents)
    return [(n.lineno, n.value) for n in constants if isinstance(n.value, str)]


def test_runs_forks_and_reports_know_no_method_by_name() -> None:
    files = [f for pattern in NEUTRAL for f in SOURCE.glob(pattern) if f.name not in EARLIER]
    assert len(files) > len(NEUTRAL)
    named = [
        f"{file.relative_to(SOURCE)}:{line} {text!r}"
        for file in files
        for line, text in texts(file.read_text())
        if NAMES.search(text)
    ]
    assert named == []


@pytest.mark.parametrize(
    "line", ['x = f"eto-{n}"', 'x = f"evaluate/{a}/dev"', 'f(["sft"])', 'x = "dev-few"', 'x = "step_agent"']
)
def test_a_name_is_seen(line: str) -> None:
    assert any(NAMES.search(text) for _, text in texts(f'"""The sft stage."""\n{line}\n'))


def test_phases_are_written_and_parsed_in_one_place() -> None:
    written = re.compile(r"^(explore|evaluate)/")
    found = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if any(written.search(text) for _, text in texts(file.read_text()))
    }
    assert found == set()
