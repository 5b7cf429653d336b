"""Small files that survive a kill: atomic writes, JSON without NaN, JSON lines, errors of the disk."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from eto.data.atomic import atomic_file
from eto.data.jsontext import parse_json
from eto.data.oserrors import NO_DESCRIPTORS, NO_ROOM, REFUSED, unreadable, unwritable
from eto.errors import InputError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`, so that a kill leaves the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_file(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of a JSON value; infinite and NaN numbers become null."""
    write_atomic(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises `InputError` naming what keeps it from being read."""
    return _parsed(_read(path), str(path), "restore it from a copy")


def read_object(path: Path, *fields: str) -> dict[str, Any]:
    """The JSON object in `path`, which has `fields`. Raises `InputError` where it is another."""
    return _object(read_json(path), fields, str(path), "restore it from a copy")


def read_rows(path: Path, *fields: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file, which have `fields`; none where it does not exist, no half-written
    last one. Raises `InputError` naming the line that is another."""
    if not path.exists():
        return
    for number, line in enumerate(_read(path).split("\n")[:-1], start=1):
        where, hint = f"{path}:{number}", "delete the line"
        row = _parsed(line, where, hint)
        yield _object(row, fields, where, hint)


def cut_torn_row(path: Path) -> None:
    """Cut a last line that a kill left half-written off a JSON-lines file, where there is one: what is
    appended next then begins a line."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _parsed(text: str, where: str, hint: str) -> Any:
    try:
        return parse_json(text, where)
    except InputError as error:
        raise InputError(error.problem, where=error.where, hint=hint) from error


def _object(value: Any, fields: Sequence[str], where: str, hint: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError("is not JSON object", where=where, hint=hint)
    for field in fields:
        if field not in value:
            raise InputError(f"the field {field!r} is missing", where=where, hint=hint)
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text, byte {error.start}"
        raise InputError(problem, where=str(path), hint="restore it from a copy") from None


@contextmanager
def disk_errors(path: Path, *, full_only: bool = False) -> Iterator[None]:
    """Turn a full disk into `MissingRequirement` and, unless `full_only`, a place that cannot be
    written into `InputError`; `path` is named where the system names no file."""
    try:
        yield
    except SafetensorError as error:  # it carries the system's error as text
        number = int(match[1]) if (match := re.search(r"os error (\d+)", str(error))) else 0
        if number in NO_ROOM or (not full_only and number in REFUSED):
            raise unwritable(path, OSError(number, os.strerror(number))) from error
        raise
    except OSError as error:
        if error.errno in NO_ROOM | NO_DESCRIPTORS or (not full_only and error.errno in REFUSED):
            raise unwritable(error.filename or path, error) from error
        raise


def finite(value: Any) -> Any:
    """`value` with infinite and NaN numbers replaced by None, which JSON has."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
