"""What no file of the repository may contain, and what the README promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BROAD = {"Exception", "BaseException"}
# A process boundary: every error, bugs included, is sent to the parent, which raises it there.
BOUNDARIES = {
    "src/eto/experiment/tracking.py": 1,  # whatever a tracker raises, training goes on
    "src/eto/environments/hosting/boundary.py": 1,
    "src/eto/environments/hosting/worker.py": 1,
    "src/eto/rollout/simulators.py": 1,  # passed on to anyone who awaits the answer, whatever it is
}
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sh", ".cfg", ".html", ""}
SKIPPED = {
    ".git",
    ".venv",
    ".venv-lower",
    ".venv-pythons",
    "runs",
    "build",
    "__pycache__",
    ".ruff_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".hypothesis",
}
# In pieces, so that this file passes its own tests.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
MACHINE = re.compile(
    r"(?<![\w.:/~-])/(?:root|work|home/\w+|Users/\w+)/"
    r"|\b(?:pypi" + r"\.org|python" + r"hosted|download\.py" + r"torch|find-" + r"links|index-" + r"url)\b"
)


def repository_files() -> list[Path]:
    """Tracked and new text files; every file but the ignored ones where git is not at hand."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if not SKIPPED & set(path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file() and path.suffix in TEXT and path.name != "LICENSE"]


def matches(pattern: re.Pattern[str], paths: Iterable[Path]) -> list[str]:
    return [
        f"{path.name}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def broad_excepts(text: str) -> list[int]:
    """Lines that catch everything, or suppress it; a handler that ends on `raise` swallows nothing."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and _broad(node.type) and not _reraises(node):
            found.append(node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            found += [node.lineno for argument in node.args if _broad(argument)]
    return found


def _broad(kind: ast.expr | None) -> bool:
    parts = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(part is None or ast.unparse(part).split(".")[-1] in BROAD for part in parts)


def _reraises(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def shell_lines(markdown: str) -> list[str]:
    """Commands of a page's shell blocks, without comments."""
    blocks = re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = [
        line.removeprefix("$ ").split(" #")[0].strip() for block in blocks for line in block.splitlines()
    ]
    return [line for line in lines if line and not line.startswith("#")]


def commands(lines: Iterable[str], program: str) -> set[str]:
    """First words after `program` at the start of a line (a path before it is fine)."""
    found = (re.match(rf"(?:\S*/)?{program} +([a-z][\w-]*)", line) for line in lines)
    return {match.group(1) for match in found if match}


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documented() -> list[str]:
    return [line for page in pages() for line in shell_lines(page.read_text(encoding="utf-8"))]


def test_no_broad_except():
    paths = [path for path in repository_files() if path.suffix == ".py"]
    assert len(paths) > 10
    found = {str(path.relative_to(ROOT)): broad_excepts(path.read_text(encoding="utf-8")) for path in paths}
    assert {path: lines for path, lines in found.items() if len(lines) > BOUNDARIES.get(path, 0)} == {}


def test_nothing_unfinished():
    assert matches(UNFINISHED, repository_files()) == []


def test_no_machine_paths_or_package_hosts():
    assert matches(MACHINE, repository_files()) == []


def test_pins_are_plain_versions():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = (project["dependencies"], *project["optional-dependencies"].values())
    named = [line for group in groups for line in group]
    wanted = {re.match(r"[\w.-]+", line).group().lower().replace("_", "-") for line in named}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert wanted - pinned - {"eto-agent"} == set()


def test_readme_begins_with_the_quickstart():
    assert "make quickstart" in shell_lines((ROOT / "README.md").read_text(encoding="utf-8"))


def test_documented_make_targets_exist():
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert commands(documented(), "make") <= targets


def test_documented_commands_exist():
    for command in sorted(commands(documented(), "eto")):
        done = subprocess.run(
            [sys.executable, "-m", "eto", command, "--help"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"eto {command}: {done.stderr}"


def test_documented_recipes_exist():
    named = {name for line in documented() for name in re.findall(r"\brecipes/[\w.-]+\.yaml", line)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


# The checks themselves.


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("except Exception:\n    pass", [3]),
        ("except:\n    pass", [3]),
        ("except (OSError, BaseException) as error:\n    print(error)", [3]),
        ("except Exception:\n    close()\n    raise", []),
        ("except OSError:\n    pass", []),
    ],
)
def test_broad_excepts_are_found(body, lines):
    assert broad_excepts("try:\n    act()\n" + body) == lines


def test_broad_suppress_is_found():
    assert broad_excepts("with contextlib.suppress(Exception):\n    act()") == [1]
    assert broad_excepts("with suppress(OSError):\n    act()") == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("path = '/ro" + "ot/x'", True),
        ("open('/ho" + "me/ann/data')", True),
        ("see https://pypi" + ".org/project/x", True),
        ("pip install --index-" + "url x", True),
        ("https://example.com/work/page", False),
        ("runs/work/x and ./work/y", False),
        ("~/.cache/eto", False),
    ],
)
def test_machine_pattern(line, found):
    assert bool(MACHINE.search(line)) is found


def test_shell_lines_and_commands():
    page = (
        "x\n```sh\n$ make quickstart   # about\n.venv/bin/eto run a.yaml\neto --help\n# no\n```\n"
        "```python\neto bad\n```\n"
    )
    lines = shell_lines(page)
    assert lines == ["make quickstart", ".venv/bin/eto run a.yaml", "eto --help"]
    assert commands(lines, "make") == {"quickstart"}
    assert commands(lines, "eto") == {"run"}
