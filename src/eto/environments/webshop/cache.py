"""Stores of products in the user's cache: built once from the original files, shared by all processes."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from eto.data.atomic import atomic_directory
from eto.environments.webshop.store import Catalogue, open_products
from eto.errors import InputError, MissingRequirement
from eto.paths import cache_dir

FORM = 2
"""Number of the store's form; raise it when the same files would give another store."""
CONTENTS = "store.json"
LARGE = 20_000_000
"""Bytes of source files from which a build is announced."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """What of a store is in no array."""

    categories: list[str]
    """By code."""
    skipped: Counter[str]


class _Unfit(Exception):
    """Why a store in the cache cannot be used."""


def cached_store(sources: Sequence[Path], build: Callable[[Path], Stored]) -> Catalogue:
    """The products of `sources`; `build` writes them to an empty directory where the cache has them not.

    A store is trusted when sizes and times of `sources` and the sizes of its own files agree with what it
    says of them. Safe to call from several processes; a build that is killed leaves nothing that counts.

    Raises `InputError`: a source cannot be read; `MissingRequirement`: the cache cannot be written.
    """
    states = [_state(path) for path in sources]
    digest = hashlib.sha256(json.dumps([state["path"] for state in states]).encode()).hexdigest()
    target = cache_dir() / "webshop" / digest[:16]
    try:
        return _open(target, states)
    except _Unfit:
        pass
    with _locked(target):
        try:
            return _open(target, states)
        except _Unfit as reason:
            if target.exists():
                _log.warning("stored products of %s: %s; they are built again", sources[0], reason)
        if sum(state["size"] for state in states) > LARGE:
            _log.warning("reading %s into the cache, once; this may take minutes", sources[0].parent)
        _build(target, states, build)
        try:
            return _open(target, states)
        except _Unfit as reason:
            raise _unwritable(target, reason) from reason


def _state(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=str(path), hint="is it a file of WebShop's?"
        ) from error
    return {"path": str(path.resolve()), "size": status.st_size, "time": status.st_mtime_ns}


def _open(target: Path, states: list[dict[str, Any]]) -> Catalogue:
    """The store of these sources. Raises `_Unfit`."""
    try:
        contents = json.loads((target / CONTENTS).read_text(encoding="utf-8"))
        if contents["form"] != FORM:
            raise _Unfit("of another form")
        if contents["sources"] != states:
            raise _Unfit("the files have changed")
        for name, size in contents["files"].items():
            if (target / name).stat().st_size != size:
                raise _Unfit(f"{name} has the wrong size")
        products = open_products(target, contents["categories"])
        return Catalogue(products, Counter(contents["skipped"]))
    except OSError as error:
        raise _Unfit(f"{Path(error.filename or target).name} is missing or unreadable") from error
    except (ValueError, LookupError, TypeError, AttributeError, sqlite3.Error) as error:
        raise _Unfit(f"damaged ({error})") from error


def _build(target: Path, states: list[dict[str, Any]], build: Callable[[Path], Stored]) -> None:
    """Write the store to `target`, all or nothing."""
    try:
        with atomic_directory(target) as work:
            stored = build(work)
            contents = {
                "form": FORM,
                "sources": states,
                "categories": stored.categories,
                "skipped": stored.skipped,
                "files": {path.name: path.stat().st_size for path in sorted(work.iterdir())},
            }
            (work / CONTENTS).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    except (OSError, sqlite3.Error) as error:
        raise _unwritable(target, error) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the build's lock, reported to the user when another process has it."""
    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except TimeoutError:
        _log.warning("another process is reading the products into the cache: waiting for it")
        lock.acquire()
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(target: Path, error: Exception) -> MissingRequirement:
    return MissingRequirement(
        f"the products cannot be stored in the cache: {getattr(error, 'strerror', None) or error}",
        where=str(target.parent),
        hint="free some space or fix its permissions, or set ETO_CACHE to a folder you may write to",
    )
