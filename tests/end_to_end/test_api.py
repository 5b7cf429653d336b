"""The public interface, and the example of docs/python.md: on ten public names, and it runs."""

from __future__ import annotations

import ast
import json
import pydoc
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from coin_game import RECIPE

import eto

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "loop.py"

SMALL = {
    '"scienceworld", kinds=["find-plant", "lifespan-longest-lived"]': '"textworld-express", **OPTIONS',
    'suite.tasks("train")[::4], suite.tasks("dev")[::4]': 'suite.tasks("train")[:32], suite.tasks("dev")[:9]',
    'eto.load_learner("embedded")': "eto.load_learner(MODEL)",
    "epochs=4, learning_rate=1e-4, batch_tokens=1000": "epochs=5, learning_rate=2e-3, batch_tokens=1600",
    "learning_rate=5e-6": "learning_rate=1e-4",
}
"""What a test of seconds says in place of the example's sizes."""


def test_the_readme_shows_the_example() -> None:
    [shown] = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.M | re.S)
    _, _, code = EXAMPLE.read_text().partition("import eto\n")
    assert shown.partition("import eto\n")[2] == code


def test_the_example_uses_public_names_alone() -> None:
    tree = ast.parse(EXAMPLE.read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imported] == ["import eto"]
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "eto"
    }
    assert used <= set(eto.__all__) and len(used) == 10


PUBLIC = """
import importlib, inspect, json, os, sys, traceback, types
import torch, peft, scipy.stats  # once for all: it is the order of eto's own modules that is tried

def tried(name, first):
    for module in first:
        importlib.import_module(module)
    import eto
    found = {name: getattr(eto, name) for name in eto.__all__}
    assert dir(eto) == sorted(found)
    modules = [name for name, value in found.items() if isinstance(value, types.ModuleType)]
    print(json.dumps([name, modules, [name for name, value in found.items() if not inspect.getdoc(value)]]))

for name, first in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        try:
            tried(name, first)
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.wait()
"""
MODULES = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "src" / "eto").rglob("*.py"))
    if path.name not in ("__main__.py", "worker.py")
]
FIRST = {
    "the package": ["eto"],
    "a module": ["eto.credit.contrast"],
    "a command": ["eto.cli.stages"],
    "all, the last first": MODULES[::-1],
    "all": MODULES,
}
"""What is imported before anything else of eto."""


@pytest.fixture(scope="module")
def served() -> dict[str, list[list[str]]]:
    """By what was imported first, each in a process of its own: the public names that are modules, and those
    without documentation."""
    program = [sys.executable, "-c", PUBLIC, json.dumps(FIRST)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    sys.stderr.write(done.stderr)
    return {name: faults for name, *faults in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("first", FIRST)
def test_every_public_name_is_there_whatever_was_imported_first(first: str, served) -> None:
    """A submodule of the same name must not take the function's place."""
    assert served.get(first) == [[], []]


def test_help_shows_every_public_name() -> None:
    page = pydoc.plain(pydoc.render_doc(eto))
    assert [name for name in eto.__all__ if not re.search(rf"^    (class )?{name}\b", page, re.M)] == []


def test_the_stub_lists_each_name_once_in_order() -> None:
    """What type checkers read is what `import eto` serves."""
    lines = (ROOT / "src" / "eto" / "__init__.pyi").read_text().splitlines()
    names = [match[1] for line in lines if (match := re.fullmatch(r"from \.\S+ import (\w+) as \1", line))]
    assert sorted(names) == sorted(eto.__all__) and len(names) == len(set(names))


@pytest.mark.timeout(120)
def test_the_example_runs(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXAMPLE.read_text()
    for given, small in SMALL.items():
        assert text.count(given) == 1, given
        text = text.replace(given, small)
    text = text.replace("eto.rollouts(", "rollouts(")
    monkeypatch.chdir(tmp_path)
    rollouts = partial(eto.rollouts, settings=eto.RolloutSettings(max_action_tokens=8))
    names = {"OPTIONS": RECIPE["environment"]["options"], "MODEL": model, "rollouts": rollouts}
    exec(compile(text, str(EXAMPLE), "exec"), names)

    printed = capsys.readouterr().out.splitlines()
    assert re.match(r"sft .*mean=", printed[0])
    assert eto.summarise(names["explored"]).reward.mean > 0.3
    if names["pairs"]:
        assert names["iteration"] == 2 and re.match(r"eto-2 .*mean=", printed[2])
    saved = eto.load_learner("my-agent", dtype="float32").actor("saved")
    suite, task = names["suite"], names["dev"][0]
    [again] = rollouts(saved, suite, [task])
    [before] = rollouts(names["agent"], suite, [task])
    assert again.actions == before.actions
