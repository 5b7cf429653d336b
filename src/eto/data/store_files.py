"""A store's file: its version, how it is opened by those who only read it, and what stands in a row."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from eto.data.jsontext import parse_json
from eto.data.records import trajectory_from_record
from eto.errors import InputError
from eto.types import Trajectory

VERSION = 1
"""`user_version` of the stores that this program writes and reads."""
_AS_IT_IS = "mode=ro&immutable=1"
"""The file alone, without its log, where its directory cannot be written."""
_WRITABLE = "make the directory writable, or copy the run to one that is"


def check_version(version: int, path: Path) -> None:
    """Raises `InputError` for the `user_version` of a store that this program does not read."""
    if version != VERSION:
        raise InputError(
            f"the store has version {version}, this program reads {VERSION}",
            where=str(path),
            hint="use the version of the program that wrote it, or start a new run directory",
        )


def trajectory_in(record: object, where: str) -> Trajectory:
    """The trajectory of a row's record. Raises `InputError` naming `where` for a damaged one."""
    try:
        if not isinstance(record, str):
            raise InputError(f"expected text, found {type(record).__name__}")
        return trajectory_from_record(parse_json(record, where), where)
    except InputError as error:
        problem = f"the record is damaged: {error.problem}"
        raise InputError(problem, where=error.where or where, hint="restore the store") from error


def connect_to_read(path: Path, notes: list[str] | None = None) -> sqlite3.Connection:
    """A connection to the store at `path` that writes no row: of a run that goes on, too, and where nothing
    may be written. Raises `InputError` where the store, or a part of it, cannot be read.

    notes: takes what is left out instead; with it a file that was cut off is opened too.
    """
    problem = ""
    ways = [("mode=ro", False), (_AS_IT_IS, False), (_AS_IT_IS, True)]
    for options, cut in ways[: 2 if notes is None else 3]:
        store = None
        try:
            store = sqlite3.connect(
                f"{path.absolute().as_uri()}?{options}",
                uri=True,
                timeout=10,
                isolation_level=None,
                check_same_thread=False,
            )
            if cut:  # the one way in which SQLite opens it; nothing can be written
                store.execute("PRAGMA writable_schema = ON")
            store.execute("SELECT 1 FROM episodes NOT INDEXED LIMIT 1").fetchall()
        except sqlite3.Error as error:
            if store is not None:
                store.close()
            problem = problem or f"the episodes cannot be read: {error}"
            continue
        left_out = f"{path}: some of {problem}" if cut else _unread_log(path) if options == _AS_IT_IS else ""
        if left_out and notes is None:
            store.close()
            raise InputError(left_out, hint=_WRITABLE)
        if left_out and notes is not None:
            notes.append(left_out)
        return store
    hint = _WRITABLE if _unread_log(path) else "check the run directory, or restore the file"
    raise InputError(problem, where=str(path), hint=hint)


def _unread_log(path: Path) -> str:
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        return f"{log}: the latest episodes cannot be read without write access to the directory"
    return ""
