"""The recipes that the package carries, by name: `quickstart`, `methods/eto`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from eto.data.files import disk_errors, write_atomic
from eto.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
"""A link to the repository's `recipes/`; in an installed package, copies."""


def shipped_recipes() -> dict[str, Path]:
    """Name -> file; those of the folder itself first, then those of its folders, each in order."""
    paths = sorted(FOLDER.glob("*.yaml")) + sorted(FOLDER.glob("*/*.yaml"))
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in paths}


def recipe_path(given: str | Path) -> Path:
    """`given`, or the shipped recipe that it names where there is no such file.

    Raises `InputError` for a missing file, with what is shipped under a similar name.
    """
    path = Path(given)
    if path.exists() or path.is_symlink():
        return path
    shipped = shipped_recipes()
    if found := shipped.get(path.as_posix()):
        return found
    for start in range(len(path.parts)):  # recipes/methods/eto.yaml, as the documentation writes
        name = Path(*path.parts[start:]).with_suffix("").as_posix()
        if path.suffix == ".yaml" and name in shipped:
            hint = f"it comes with eto: give {name}, or write all with `eto recipes --out recipes`"
            raise InputError("there is no such recipe here", where=str(given), hint=hint)
    if path.suffix == "" and path.name == str(given):
        hint = f"{_near(path.name)}; a recipe of your own is a YAML file"
        raise InputError("there is no recipe of this name, and no such file", where=str(given), hint=hint)
    return path


def summary(path: Path) -> str:
    """The first sentence of each paragraph of a recipe's comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    paragraphs = " ".join(line or "\n" for line in comment).split("\n")
    return " ".join(re.split(r"(?<=\.) ", text.strip())[0] for text in paragraphs)


def named_recipes(names: Sequence[str]) -> dict[str, Path]:
    """Those of `shipped_recipes` with these names, by default all. Raises `InputError`: an unknown name."""
    shipped = shipped_recipes()
    for name in names:
        if name not in shipped:
            raise InputError("there is no recipe of this name", where=name, hint=_near(name))
    return {name: shipped[name] for name in names} or shipped


def copy_recipes(names: Sequence[str], out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the shipped recipes `names`, by default all, below the folder `out`; returns their paths.

    Raises `InputError` for an unknown name, and for a file that is there already; then nothing is written.
    """
    found = {out / f"{name}.yaml": path for name, path in named_recipes(names).items()}
    for target in found:
        if os.path.lexists(target) and not overwrite:
            hint = "give another folder, or --overwrite to replace it"
            raise InputError("it exists already", where=str(target), hint=hint)
    for target, path in found.items():
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, path.read_text(encoding="utf-8"))
    return list(found)


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, shipped_recipes(), n=1)
    question = f"did you mean {near[0]}? " if near else ""
    return f"{question}`eto recipes` lists those that come with eto"
