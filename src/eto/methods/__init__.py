"""Training methods, one file each: the file's name is the method's, its `METHOD` says the rest.

Nothing is registered elsewhere: a file in this folder is found by its name, and other packages add
theirs as entry points of the group `eto.methods`, each naming a `Method`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules

from eto.errors import InputError
from eto.protocols import Method, Stage
from eto.settings.base import MethodSettings


class _Methods(MutableMapping[str, Method]):
    """Name -> method, each loaded on first use."""

    def __init__(self) -> None:
        self._loaded: dict[str, Method] = {}

    def __getitem__(self, name: str) -> Method:
        if name not in self._loaded:
            if name in _files():
                self._loaded[name] = import_module(f"{__name__}.{name}").METHOD
            else:
                self._loaded[name] = _installed()[name].load()
        return self._loaded[name]

    def __setitem__(self, name: str, method: Method) -> None:
        self._loaded[name] = method

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is one; entry points are only looked up for names that no file here has, for every
        lookup searches all installed packages."""
        return name in self._loaded or name in _files() or name in _installed()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_files(), *_installed(), *self._loaded]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


METHODS: MutableMapping[str, Method] = _Methods()
"""Every method by name; a name is loaded when it is asked for."""


def load_method(name: str) -> Method:
    """The method called `name`. Raises `InputError` with the nearest name where there is none."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"methods: {', '.join(sorted(METHODS))}"
        raise InputError(f"unknown method {name!r}", where="method.name", hint=hint)
    return METHODS[name]


def declared_stages(settings: MethodSettings) -> list[Stage]:
    """The stages that a method goes through with these settings, in its order."""
    return list(load_method(settings.name).stages(settings))


def _files() -> list[str]:
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=__name__)}
