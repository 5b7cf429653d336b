"""What a shell offers behind a command: runs, recipes, models, methods, environments, fixed words.

Each function gets what is typed of a word and returns whole words that begin with it. Where there is none,
the shell offers files. None loads torch or a suite.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

_DEPTH = 4
"""Folders below the one that is typed."""
_MOST = 4000
"""Entries that are looked at: a key press must not read a whole disk."""
_MODEL_FILES = ("config.json", "adapter_config.json")
_RECIPE = re.compile(r"^environment\s*:", re.MULTILINE)


def recipes(incomplete: str) -> list[str]:
    """Recipe files below here, or below what is typed."""
    return sorted(path for path in _below(incomplete) if _is_recipe(Path(path)))


def runs(incomplete: str) -> list[str]:
    """Directories of runs."""
    return sorted(path for path in _below(incomplete) if _is_run(Path(path)))


def models(incomplete: str) -> list[str]:
    """`embedded`, and directories of models, those that runs made too."""
    named = [word for word in ("embedded",) if word.startswith(incomplete)]
    return named + sorted(path for path in _below(incomplete, into_runs=True) if _is_model(Path(path)))


def agents(incomplete: str) -> list[str]:
    """What can play: runs, which stand for the agents that they ship, and models."""
    return runs(incomplete) + models(incomplete)


def methods(incomplete: str) -> list[str]:
    """A list of methods with commas between them, by one longer."""
    from eto.methods import METHODS

    before, comma, begun = incomplete.rpartition(",")
    given = before.split(",")
    return [
        f"{before}{comma}{name}" for name in sorted(METHODS) if name.startswith(begun) and name not in given
    ]


def environments(incomplete: str) -> list[str]:
    """Names of environments."""
    from eto.environments import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


def overrides(context: typer.Context, incomplete: str) -> list[str]:
    """`method.name=`, `environment.name=` and `model.path=` with their values. Bash takes `=` for the end of
    a word, so that there the value alone is typed and offered."""
    from eto.methods import METHODS

    values: dict[str, Callable[[str], list[str]]] = {
        "method.name": lambda begun: [name for name in sorted(METHODS) if name.startswith(begun)],
        "environment.name": environments,
        "model.path": models,
    }
    given = [str(each) for each in context.params.get("overrides") or ()]
    if given[-1:] == ["="] and given[-2] in values:
        return values[given[-2]](incomplete)
    field, equals, begun = incomplete.partition("=")
    if equals:
        return [f"{field}={value}" for value in values[field](begun)] if field in values else []
    return [f"{each}={value}" for each in values if each.startswith(field) for value in values[each]("")]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Fixed words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def some_of(*words: str) -> Callable[[str], list[str]]:
    """Fixed words with commas between them."""

    def offered(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        given = before.split(",")
        return [f"{before}{comma}{word}" for word in words if word.startswith(begun) and word not in given]

    return offered


def _below(incomplete: str, *, into_runs: bool = False) -> Iterator[str]:
    """Paths that begin with what is typed, folders before what they hold; nearer ones first. Those in runs
    are left out unless `into_runs`."""
    folder, name = os.path.split(incomplete)
    waiting, left = deque([(folder, name, _DEPTH)]), _MOST
    while waiting and left > 0:
        folder, begin, depth = waiting.popleft()
        for entry in _entries(folder or "."):
            left -= 1
            if not entry.name.startswith(begin) or (entry.name.startswith(".") and not begin.startswith(".")):
                continue
            path = os.path.join(folder, entry.name)
            yield path
            if depth > 0 and _is_folder(entry) and (into_runs or not _is_run(Path(path))):
                waiting.append((path, "", depth - 1))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:  # it does not exist, or may not be read: nothing is offered
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_run(path: Path) -> bool:
    return (path / "manifest.json").is_file() and (path / "recipe.yaml").is_file()


def _is_model(path: Path) -> bool:
    return any((path / name).is_file() for name in _MODEL_FILES)


def _is_recipe(path: Path) -> bool:
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return _RECIPE.search(file.read(20_000)) is not None
    except OSError:
        return False
