"""What the code imports is declared, and every direct dependency has a lower bound."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from scripts.lower_bounds import direct_requirements, lower_bounds

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = list(PROJECT["optional-dependencies"])
# Imported where it happens to be installed, and done without elsewhere.
IF_THERE = {"spacy", "openenv", "mlflow"}  # which two packages bring
# Of an extra, imported where a command or a file needs it, with a message that names the extra.
ASKED_FOR = {"uvicorn", "websockets", "starlette", "markupsafe", "pyarrow", "ray", "accelerate", "wandb"}
ASKED_FOR |= {"bitsandbytes", "trackio"}
OURS = {"eto", "benchmarks", "scripts", "tests", "countdown", "tiny"}


def imported(folder: Path, without: str = "") -> dict[str, str]:
    """Top-level name -> a file that imports it, for all but the standard library's and ours.

    without: a folder inside that is left out.
    """
    paths = [path for path in sorted(folder.rglob("*.py")) if without not in path.parts]
    local = {path.stem for path in paths} | OURS
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                if top not in local | IF_THERE | sys.stdlib_module_names:
                    found[top] = str(path.relative_to(ROOT))
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extras: list[str]) -> set[str]:
    return {normal(requirement.name) for requirement in direct_requirements(PROJECT, extras)}


@pytest.mark.parametrize("folder", ["src/eto", "tests", "scripts", "benchmarks"])
def test_what_is_imported_is_declared(folder):
    installed = packages_distributions()
    missing = {
        name: path
        for name, path in imported(ROOT / folder).items()
        if not {normal(package) for package in installed.get(name, [name])} & declared(EXTRAS)
    }
    assert missing == {}


def test_the_core_imports_core_dependencies_only():
    """Outside `environments` and what serves them, nothing may need an extra."""
    installed = packages_distributions()
    core = imported(ROOT / "src" / "eto", without="environments")
    wanted = {name: {normal(package) for package in installed.get(name, [name])} for name in core}
    missing = {name for name, packages in wanted.items() if not packages & declared([])}
    assert missing <= ASKED_FOR


def test_every_dependency_has_a_lower_bound():
    bounds = lower_bounds(PROJECT, EXTRAS)
    assert bounds["torch"] and bounds["httpx2"] and bounds["scienceworld"]
    assert "eto-agent" not in bounds


def test_a_dependency_without_a_bound_and_an_unknown_extra_are_told():
    bare = {"name": "mine", "dependencies": ["torch", "numpy>=2"], "optional-dependencies": {}}
    with pytest.raises(SystemExit, match="torch has no lower bound"):
        lower_bounds(bare, [])
    with pytest.raises(SystemExit, match="no extra 'gpu'"):
        lower_bounds(PROJECT, ["gpu"])


def test_pins_lie_within_the_bounds():
    from packaging.version import Version

    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    pins = {normal(name): version for name, version in pins.items()}
    below = {
        name: pins[name]
        for name, least in lower_bounds(PROJECT, EXTRAS).items()
        if name in pins and Version(pins[name]) < Version(least)
    }
    assert below == {}
