"""Reading and writing JSON files so that a mistake names its line and a crash leaves no half file."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eto.errors import InputError
from eto.oserrors import unwritable


def read_items(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file: a list, or one object a line; `.gz` allowed.

    Returns (where, object) pairs; `where` names the file and the line (JSON lines,
    from 1) or the item (JSON list, from 0). Raises `InputError` for a file that is
    missing, unreadable, empty, not JSON, or not made of objects.
    """
    text = _read_text(Path(path))
    empty = InputError("the file is empty", where=str(path), mend="give a file with at least one item")
    if not text.strip():
        raise empty
    if text.lstrip().startswith("["):
        values = _parse(text, str(path), whole=True)
        found = [(f"{path}, item [{index}]", value) for index, value in enumerate(values)]
        if not found:
            raise empty
    else:
        found = []
        # Not splitlines(): it also splits at separators that may stand inside JSON text.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                where = f"{path}, line {number}"
                found.append((where, _parse(line, where)))
    for where, value in found:
        if not isinstance(value, dict):
            raise InputError(
                f"expected a JSON object, found {type(value).__name__}",
                where=where,
                mend="write one JSON object a line, or a JSON list of objects",
            )
    return found


def _read_text(path: Path) -> str:
    mend = "check the path"
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            mend = "compress the file again; it is damaged or cut short"
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text: {error.reason} at byte {error.start}",
            where=str(path),
            mend="save the file as UTF-8",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the file: {problem}", where=str(path), mend=mend) from error


def _parse(text: str, where: str, *, whole: bool = False) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON at column {error.colno}: {error.msg}",
            where=f"{where}, line {error.lineno}" if whole else where,
            mend="correct or delete it; a file cut short by a crash must be made again",
        ) from error


def json_line(value: Any) -> str:
    """`value` as one line of JSON, readable: no escapes where UTF-8 can say it."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates have no UTF-8 form
        text = json.dumps(value)
    return text


def write_text(path: str | Path, parts: Iterable[str]) -> None:
    """Write `parts` to `path` all or nothing: a temporary file beside it, then a rename.

    Compressed where the name ends in `.gz`; makes missing directories. Raises
    `MissingRequirement` for a full disk, `InputError` for a place not to be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as raw:
            try:
                _fill(raw, parts, packed=path.name.endswith(".gz"))
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def _fill(raw: Any, parts: Iterable[str], *, packed: bool) -> None:
    if packed:
        # A fixed time and no name: the same content gives the same bytes.
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
            for part in parts:
                file.write(part.encode())
    else:
        for part in parts:
            raw.write(part.encode())
    raw.flush()
    os.fsync(raw.fileno())
