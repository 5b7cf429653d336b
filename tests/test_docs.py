"""The pages say what is there: fields, links, modules, commands, examples."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import eto
from eto.cli import app
from eto.cli.compose import read_recipe
from eto.data.formats import read_pairs, read_trajectories
from eto.environments import SUITES
from eto.evaluation.comparison_files import join, read_comparison
from eto.experiment.recipe import parse_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
SOURCE = ROOT / "src" / "eto"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """scripts/recipe_page.py."""
    spec = importlib.util.spec_from_file_location("recipe_page", ROOT / "scripts" / "recipe_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(markdown: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language; "" for those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    return [text for named, text in found if named == language]


def anchors(markdown: str) -> set[str]:
    """Link targets of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file or heading does not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def tree_paths(block: str) -> list[str]:
    """Paths named by an annotated tree: one a line, two blanks a level, a clause behind it."""
    paths: list[str] = []
    open_folders: list[str] = []
    for line in block.splitlines():
        indent, name, clause = re.match(r"( *)(\S+) {2,}(\S.*)$", line).groups()
        del open_folders[len(indent) // 2 :]
        paths.append("".join(open_folders) + name)
        if name.endswith("/"):
            open_folders.append(name)
        assert clause
    return paths


def defined(path: Path) -> set[str]:
    """Functions, classes and their methods of a module, dotted."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def documented_commands() -> list[str]:
    """Lines of the pages' shell blocks that call `eto`, but for outlines such as `NAME [OPTION=VALUE]...`."""
    texts = [block.replace("\\\n", " ") for page in PAGES for block in blocks(page.read_text("utf-8"), "sh")]
    lines = [line for text in texts for line in text.splitlines()]
    called = (re.sub(r"^(\$ )?(\.venv/bin/)?", "", line) for line in lines)
    return sorted(
        {line for line in called if line.startswith("eto ") and not re.search(r"\.\.\.|…|\[[A-Z]", line)}
    )


@pytest.mark.parametrize("page", ["docs/recipes.md", "docs/eto.md", "docs/files.md"])
def test_generated_tables_are_up_to_date(tables, page):
    assert text_of(page) == tables.renewed(page), "run python scripts/recipe_page.py"


def test_every_field_is_listed_with_its_default(tables):
    fields = re.findall(r"^\| `([\w.]+)`[ °]* \| [^|]+ \| ([^|]+) \|", text_of("docs/recipes.md"), re.M)
    rows = dict(reversed(fields))  # an option further down may have a field's name
    recipe = parse_recipe("name: x\nenvironment: {name: x}\nmodel: {lora: {}}\n").model_dump()

    def check(values: dict, path: str) -> None:
        for name, value in values.items():
            place = f"{path}{name}"
            if isinstance(value, dict) and place != "environment.options":
                check(value, f"{place}.")
            elif place not in ("name", "environment.name"):
                assert json.loads(json.dumps(value)) == _yaml(rows[place].strip("`")), place

    check(recipe, "")


def _yaml(text: str) -> object:
    return parse_recipe(f"name: x\nenvironment: {{name: x, options: {{v: {text}}}}}\n").environment.options[
        "v"
    ]


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_option_of_a_suite_is_listed(name):
    module, attribute = SUITES[name]
    suite = getattr(importlib.import_module(module), attribute)
    part = text_of("docs/recipes.md").split(f"\n`{name}`:")[1].split("\n\n`")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (`[^`]+`|required) \|", part, re.M))
    shown = {
        key: inspect.Parameter.empty if text == "required" else _yaml(text.strip("`"))
        for key, text in rows.items()
    }
    options = inspect.signature(suite).parameters.values()
    assert {option.name: option.default for option in options} == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_the_tree_names_every_folder_once():
    [block] = [block for block in blocks(text_of("CONTRIBUTING.md"), "") if block.startswith("src/eto/")]
    named = tree_paths(block)
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert len(set(named)) == len(named)
    assert len(named) <= 50, "it fits a screen"
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in SOURCE.rglob("__init__.py")}
    assert {path for path in named if path.startswith("src/eto/")} == folders


def test_every_module_stands_in_its_folders_docstring():
    """But for the public names of `eto`, and for methods, which are found by their files' names."""
    missing = []
    for start in SOURCE.rglob("__init__.py"):
        if start.parent.relative_to(SOURCE).as_posix() not in (".", "methods"):
            text = ast.get_docstring(ast.parse(start.read_text(encoding="utf-8"))) or ""
            named = sorted(re.findall(r"^- `(\w+)`: \S", text, re.M))
            present = sorted(path.stem for path in start.parent.glob("*.py") if path.stem != "__init__")
            missing += [start.parent.name] if named != present else []
    assert missing == []


def test_tests_mirror_the_source():
    """Every folder of tests is one of src/eto, except for whole commands and what tests share."""
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    ours = {path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("__init__.py")}
    assert folders - ours == {"end_to_end"}


def test_the_example_uses_public_names_alone():
    [example] = blocks(text_of("docs/python.md"), "python")
    used = set()
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "eto":
            used.add(node.attr)
    assert used and used <= set(eto.__all__)
    assert len(example.splitlines()) <= 25


def test_the_table_of_commands_is_complete():
    named = re.findall(r"^\| `eto ([\w-]+)", text_of("docs/commands.md"), re.M)
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    commands += [group.name for group in app.registered_groups]
    assert sorted(named) == sorted(name.replace("_", "-") for name in commands)


def test_the_recipe_of_the_first_run_is_valid():
    found = blocks(text_of("docs/first_run.md"), "yaml")
    assert found
    for text in found:
        parse_recipe(text)


def test_the_functions_named_for_the_equations_exist():
    table = text_of("docs/eto.md").split("## Algorithm 1")[1].split("## Deviations")[0]
    named = re.findall(r"`((?:[a-z_]+\.)+[A-Za-z_]\w*(?:\.\w+)?)`", table)
    assert len(named) > 12
    missing = []
    for name in named:
        parts = name.split(".")
        places = [(SOURCE.joinpath(*parts[:n]).with_suffix(".py"), parts[n:]) for n in range(1, len(parts))]
        if not any(path.is_file() and ".".join(rest) in defined(path) for path, rest in places):
            missing.append(name)
    assert missing == []


def test_examples_of_files_are_read(tmp_path):
    examples = blocks(text_of("docs/files.md"), "json")
    read = {"trajectories": 0, "pairs": 0}
    for number, text in enumerate(examples):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(json.loads(text)) + "\n")
        kind, reader = ("pairs", read_pairs) if '"chosen"' in text else ("trajectories", read_trajectories)
        [_] = reader(path)
        read[kind] += 1
    assert read == {"trajectories": 4, "pairs": 2}


@pytest.mark.parametrize("line", documented_commands(), ids=str)
def test_documented_commands_are_understood(line):
    """Names, options and values of each `eto` command in a page, and the settings it overrides."""
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    context = command.make_context("eto", words, ignore_unknown_options=False)
    while hasattr(command, "resolve_command") and (rest := context._protected_args + context.args):  # a group
        name, command, words = command.resolve_command(context, rest)
        context = command.make_context(name, words, parent=context)
    recipes = [word for word in words if re.fullmatch(r"recipes/.*\.yaml", word)]
    given = zip(["", *words], words, strict=False)
    overrides = [
        word for before, word in given if re.fullmatch(r"[a-z][\w.]*=.+", word) and before != "--vary"
    ]
    for recipe in recipes:
        read_recipe(ROOT / recipe, overrides, "run")


def test_the_readme_is_a_screen_and_a_half():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 90


def test_the_site_is_built(tmp_path):
    """All links lead somewhere within it, and the page of public names has them all."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    missing = [name for name in eto.__all__ if not re.search(rf'id="eto\.[\w.]*\b{name}"', page)]
    assert missing == []
    assert (tmp_path / "site" / "recipes" / "quickstart.yaml").is_file()


# The checks themselves.


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "# One & two\n[x](b.md) [y](a.md#one--two) [z](#no) [w](https://no.where)\n"
    )
    assert broken_links(tmp_path / "a.md") == ["b.md", "#no"]


def test_tree_paths():
    assert tree_paths("a/      x\n  b.py  y\n  c/    z\n    d  z\ne       w\n") == [
        "a/",
        "a/b.py",
        "a/c/",
        "a/c/d",
        "e",
    ]


def test_the_results_of_all_methods_are_those_of_their_file() -> None:
    """They can be joined with further seeds, and the page's tables are made of them."""
    spec = importlib.util.spec_from_file_location("methods_page", ROOT / "scripts" / "methods_page.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    parts = read_comparison(script.KEPT)
    assert {part.label for part in parts if not part.control} == {
        path.stem for path in (ROOT / "recipes" / "methods").glob("*.yaml")
    }
    assert join({"kept": parts}) == parts
    assert script.tables(json.loads(script.KEPT.read_text("utf-8"))) in text_of("docs/results/methods.md")
