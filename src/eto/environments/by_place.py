"""A task suite that is named by where its class is: `module:Class` or `path/to/file.py:Class`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from eto.environments.hosting.boundary import as_input_error, undisturbed
from eto.errors import InputError

FORMS = "write module:Class or path/to/file.py:Class"


def is_place(name: str) -> bool:
    """Whether `name` says where a class is; names of suites have no colon."""
    return ":" in name


def suite_at(name: str) -> Callable[..., Any]:
    """The class at `name`. A module is looked for in the working directory too, a file's neighbours can be
    imported by it; worker processes find both. Raises `InputError` where there is none, or it fails."""
    place, _, attribute = name.rpartition(":")
    where = f"environment {name}"
    if not place or not attribute:
        raise InputError("half of the name is missing", where=where, hint=FORMS)
    if place.endswith(".py") or "/" in place:
        module = _file(Path(place).expanduser(), where)
    else:
        _can_be_imported(Path.cwd())
        module = _module(place, where)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        known = sorted(key for key, value in vars(module).items() if _is_suite(value))
        hint = f"suites there: {', '.join(known)}" if known else "docs/environments.md shows what a suite is"
        problem = f"{place} has no {attribute}" if found is None else f"{attribute} is no class"
        raise InputError(problem, where=where, hint=hint)
    return found


def _file(path: Path, where: str) -> ModuleType:
    if not path.is_file():
        problem = "there is no such file"
        raise InputError(problem, where=where, hint="relative paths count from the working directory")
    name = path.stem
    if path.suffix != ".py" or "." in name:
        hint = "name a file that ends in .py and has no other dot"
        raise InputError("this file cannot be imported", where=where, hint=hint)
    _can_be_imported(path.resolve().parent)
    module = _module(name, where)
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        found = getattr(module, "__file__", None) or "a part of Python"
        problem = f"there is another module of this name: {found}"
        raise InputError(problem, where=where, hint="rename the file")
    return module


def _module(name: str, where: str) -> ModuleType:
    hint = "install the package, or run eto in the directory that holds it"
    with undisturbed(), as_input_error(where, "correct the module; it must be importable on its own"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            own = name == missing or name.startswith(f"{missing}.")
            problem = (
                f"there is no module {missing!r}" if own else f"it imports {missing!r}, which is missing"
            )
            raise InputError(problem, where=where, hint=hint if own else f"install {missing}") from error
        except (TypeError, ValueError) as error:  # names such as `.game`
            raise InputError(f"{name!r} is no module's name", where=where, hint=FORMS) from error


def _can_be_imported(folder: Path) -> None:
    """Behind everything installed: what lies there hides no package."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _is_suite(value: Any) -> bool:
    return isinstance(value, type) and all(hasattr(value, name) for name in ("tasks", "environment", "spec"))
