"""Imports go down the layers only, without circles, in files and functions of a readable size."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "eto"
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 70

# A name stands for the module and, where it is a package, for everything inside.
LAYERS = (
    "types protocols errors runtime paths machine",
    "settings data tokens credit losses",
    "environments models",
    "cpu engines",
    "rollout training",
    "methods steps experiment evaluation",
    "viewer",
    "cli __main__",
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
TOP = len(LAYERS) - 1

# Heavy libraries: loaded by those who compute with them, not by who reads recipes or plays games.
HEAVY = {"torch", "transformers", "accelerate", "peft"}
LIGHT = set(LAYERS[0].split()) | {"settings", "data", "credit", "tokens", "environments"}
LIGHT |= {"methods", "experiment", "evaluation"}
COMPUTING = {"tokens.rendering", "credit.turn_weights"}
"""Modules of light folders that compute with torch."""


def modules(root: Path) -> dict[str, Path]:
    """Dotted name below `root` -> file; the root package itself is ""."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def level(module: str) -> int:
    """Layer of a module; the root package is the top. KeyError for a module of no layer."""
    return TOP if module == "" else LEVEL[module.split(".")[0]]


def imports(path: Path, module: str, known: set[str]) -> Iterator[tuple[str, int]]:
    """(module of this package, line) for every import, those inside functions included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "eto":
                    yield name.name[len("eto.") :], node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base is None:
                continue
            for name in node.names:
                inner = f"{base}.{name.name}".lstrip(".")
                yield (inner if inner in known else base), node.lineno


def _base(node: ast.ImportFrom, package: str) -> str | None:
    """The module an import-from names, relative to the root; None where it is not ours."""
    if node.level == 0:
        parts = (node.module or "").split(".")
        return ".".join(parts[1:]) if parts[0] == "eto" else None
    parts = package.split(".")
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *(node.module or "").split(".")]).strip(".")


def graph(root: Path) -> dict[str, dict[str, int]]:
    """Module -> {imported module: line}."""
    found = modules(root)
    return {
        module: {name: line for name, line in imports(path, module, set(found)) if name != module}
        for module, path in found.items()
    }


def upward(edges: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"{module or 'eto'}:{line} imports {name or 'eto'} of a higher layer"
        for module, targets in edges.items()
        for name, line in targets.items()
        if level(name) > level(module)
    ]


def circles(edges: dict[str, dict[str, int]]) -> list[str]:
    """Every circle met in a depth-first walk, as `a -> b -> a`."""
    found, done, trail = [], set(), []

    def visit(module: str) -> None:
        if module in trail:
            found.append(" -> ".join([*trail[trail.index(module) :], module]))
        elif module not in done:
            trail.append(module)
            for name in edges.get(module, ()):
                visit(name)
            trail.pop()
            done.add(module)

    for module in edges:
        visit(module)
    return found


def too_long(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    found = [f"{path.name}: {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{path.name}:{node.lineno} {node.name}: {length} lines")
    return found


def heavy(path: Path) -> list[str]:
    """Heavy libraries imported when the module itself is (not in functions, not for typing only)."""
    found, waiting = [], list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            names = []
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        found += [f"{path.name}:{node.lineno} {name}" for name in names if name.split(".")[0] in HEAVY]
    return found


def test_every_module_has_a_layer():
    assert [name for name in modules(SOURCE) if name and name.split(".")[0] not in LEVEL] == []


def test_imports_go_down():
    assert upward(graph(SOURCE)) == []


def test_no_import_circle():
    assert circles(graph(SOURCE)) == []


def test_files_and_functions_are_short():
    assert [fault for path in modules(SOURCE).values() for fault in too_long(path)] == []


def test_light_modules_load_without_heavy_libraries():
    light = [
        path
        for name, path in modules(SOURCE).items()
        if name.split(".")[0] in LIGHT and name not in COMPUTING
    ]
    assert light
    assert [fault for path in light for fault in heavy(path)] == []


def test_importing_eto_does_not_load_torch():
    code = "import sys, eto; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# The checks themselves, on small packages made for it.


@pytest.fixture
def package(tmp_path: Path):
    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "line",
    [
        "from eto.experiment import start",
        "import eto.experiment",
        "from eto import experiment",
        "from .. import experiment",
        "from ..experiment import start",
        "def act():\n    from eto.experiment import start",
        "if TYPE_CHECKING:\n    from eto.experiment import start",
        "from eto import Policy",
    ],
)
def test_an_upward_import_is_found(package, line: str):
    root = package(__init__="", experiment="", models__in____init__="", models__in__server=line)
    assert len(upward(graph(root))) == 1


def test_downward_and_level_imports_pass(package):
    root = package(
        experiment="from eto.models import server", models__in__server="from eto.environments import x"
    )
    assert upward(graph(root)) == []


def test_a_circle_is_found(package):
    root = package(
        models__in__a="def f():\n    from eto.models.b import g",
        models__in__b="from eto.models import c",
        models__in__c="from . import a",
    )
    assert circles(graph(root)) == ["models.a -> models.b -> models.c -> models.a"]


def test_a_diamond_is_no_circle(package):
    root = package(
        experiment="import eto.data\nimport eto.losses", data="import eto.types", losses="import eto.types"
    )
    assert circles(graph(root)) == []


def test_length_limits(package):
    body = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
    root = package(types=body, errors="x = 1\n" * (MAX_FILE_LINES + 1), paths="def f():\n    x = 1\n")
    assert too_long(root / "types.py") == ["types.py:1 f: 71 lines"]
    assert too_long(root / "errors.py") == ["errors.py: 321 lines"]
    assert too_long(root / "paths.py") == []


def test_heavy_imports_count_at_module_level_only(package):
    late = "def f():\n    import torch\nif TYPE_CHECKING:\n    import torch\n"
    root = package(types="try:\n    from transformers import x\nfinally:\n    import torch.nn", errors=late)
    assert sorted(heavy(root / "types.py")) == ["types.py:2 transformers", "types.py:4 torch.nn"]
    assert heavy(root / "errors.py") == []
