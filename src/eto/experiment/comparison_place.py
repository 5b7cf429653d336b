"""Where a comparison is kept, and what is refused before anything of it runs."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eto.data.files import disk_errors
from eto.errors import InputError, RunConflict
from eto.experiment.fork import changed_fields
from eto.experiment.recipe import Recipe, free_fields
from eto.experiment.run import acquire, release

FILES = ("comparison.json", "comparison.md", "comparison.png", "sweep.json", "sweep.md")
"""The tables and the figure of a comparison or sweep, beside the directories of its recipes."""
_LOCK = "lock"


@contextmanager
def held(directory: Path, names: Sequence[str]) -> Iterator[None]:
    """The directory of a comparison of the recipes `names`, for this process alone; made where missing. One
    that is there and cannot be written is not locked: only finished runs can be taken from it.

    Raises `RunConflict` where it holds a run, other files, or is in use by another process.
    """
    with disk_errors(directory):
        there = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
        if {"recipe.yaml", "manifest.json"} & there:
            raise RunConflict("the directory is that of a run", where=str(directory), hint=_ANOTHER)
        others = sorted(there - {*FILES, _LOCK, *names})
        if others and not {*FILES, _LOCK} & there:
            problem = f"the directory holds files and no comparison: {', '.join(others[:5])}"
            raise RunConflict(problem, where=str(directory), hint=_ANOTHER)
        directory.mkdir(parents=True, exist_ok=True)
        lock = _acquired(directory / _LOCK)
    try:
        yield
    finally:
        if lock is not None:
            release(lock)


def _acquired(path: Path) -> int | None:
    try:
        return acquire(path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return None
        raise


_ANOTHER = "take an empty directory, or one that does not exist yet, as --out"


def check_runs(recipes: Sequence[Recipe]) -> None:
    """Raises `RunConflict` where the directory of a recipe holds a run of another one."""
    for recipe in recipes:
        if not (recipe.directory / "recipe.yaml").exists():
            continue
        free = free_fields(recipe)
        changed = changed_fields(recipe.directory, recipe)
        changed = [line for line in changed if line.split(":")[0] not in free]
        if changed:
            raise RunConflict(
                f"the directory holds runs of another recipe called {recipe.name}\n  " + "\n  ".join(changed),
                where=str(recipe.directory),
                hint="take another --out, or the recipe that it was begun with",
            )


def check_comparable(recipes: Sequence[Recipe]) -> None:
    """Raises `InputError` for recipes that share a name or are tested on different tasks."""
    names = [recipe.name for recipe in recipes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        hint = "set `name` in each"
        raise InputError(f"two recipes have one name, {twice}", where="eto compare", hint=hint)
    for name in {*FILES, _LOCK} & set(names):
        raise InputError(f"a recipe cannot be called {name} here", where="eto compare", hint="set `name`")
    first = recipes[0]
    for other in recipes[1:]:
        if (other.environment.name, other.environment.options) != (
            first.environment.name,
            first.environment.options,
        ) or other.tasks.test_per_kind != first.tasks.test_per_kind:
            raise InputError(
                f"{first.name} and {other.name} are tested on different tasks",
                where="eto compare",
                hint="give them one environment, with the same options, and one tasks.test_per_kind",
            )
