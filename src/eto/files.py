"""Small files that survive a kill: atomic writes, JSON without NaN, JSON lines, errors of the disk."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from eto.errors import InputError
from eto.jsonfiles import NO_ROOM, unwritable

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`, so that a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of a JSON value; infinite and NaN numbers become null."""
    write_atomic(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises `InputError` naming the line of a damage."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError("is not JSON", where=f"{path}:{error.lineno}", mend="delete or restore it") from None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file; none where it does not exist, no half-written last one."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                where, mend = f"{path}:{number}", "delete the line"
                raise InputError("the line is not JSON", where=where, mend=mend) from None


@contextmanager
def disk_errors(path: Path, *, full_only: bool = False) -> Iterator[None]:
    """Turn a full disk into `MissingRequirement` and, unless `full_only`, a place that cannot be
    written into `InputError`; `path` is named where the system names no file."""
    try:
        yield
    except SafetensorError as error:  # it carries the system's error as text
        number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else 0
        if number in NO_ROOM or (not full_only and number in _UNWRITABLE):
            raise unwritable(path, OSError(number, os.strerror(number))) from error
        raise
    except OSError as error:
        if error.errno in NO_ROOM or (not full_only and error.errno in _UNWRITABLE):
            raise unwritable(error.filename or path, error) from error
        raise


def finite(value: Any) -> Any:
    """`value` with infinite and NaN numbers replaced by None, which JSON has."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
