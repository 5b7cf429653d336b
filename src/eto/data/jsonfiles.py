"""Reading and writing JSON files so that a mistake names its line and a crash leaves no half file."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from eto.data.atomic import atomic_file
from eto.data.jsontext import parse_json
from eto.data.notes import Notes
from eto.data.oserrors import unreadable, unwritable
from eto.data.tables import ARROW, PARQUET, SUFFIXES, read_saved_dataset, read_table
from eto.errors import InputError


def read_items(path: str | Path, notes: Notes | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a data file: JSON lines, a JSON list or one object, `.gz` allowed; Parquet,
    Arrow, and a directory written by `datasets.save_to_disk`.

    Returns (where, object) pairs; `where` names the file and the line (JSON lines, from 1), the
    item (JSON list, from 0) or the row (tables, from 0). Unpaired surrogates become U+FFFD, and
    are counted in `notes`, or reported where none are given. Raises `InputError` for a file that is
    missing, unreadable, empty, cut short, not UTF-8, not JSON, or not made of objects.
    """
    path, counted = Path(path), Notes() if notes is None else notes
    items = [(where, value) for where, value in _values(path, counted)]
    if not items:
        raise InputError("the file is empty", where=str(path), hint="give a file with at least one item")
    for where, value in items:
        if not isinstance(value, dict):
            raise InputError(
                f"expected a JSON object, found {type(value).__name__}",
                where=where,
                hint="write one JSON object a line, or a JSON list of objects",
            )
    if notes is None:
        counted.tell(path)
    return items


def _values(path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    try:
        data = None if path.is_dir() else path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if data is None or data.startswith((PARQUET, ARROW)) or path.suffix in SUFFIXES:
        rows = read_saved_dataset(path) if data is None else read_table(path)
        return ((f"{path}, row {number}", row) for number, row in enumerate(rows))
    return _json_values(text_of(data, path), path, notes)


def _json_values(text: str, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        values = parse_json(text, str(path), notes, is_last=True)
        yield from ((f"{path}, item [{number}]", value) for number, value in enumerate(values))
        return
    # Not splitlines(): it also splits at separators that may stand inside JSON text.
    lines = text.split("\n")
    last = max((number for number, line in enumerate(lines, start=1) if line.strip()), default=0)
    for number, line in enumerate(lines, start=1):
        if line.strip() == "{" and last > number:
            # One object over several lines, as an editor lays it out.
            yield (
                f"{path}, line {number}",
                parse_json("\n".join(lines[number - 1 :]), str(path), notes, is_last=True),
            )
            return
        if line.strip():
            yield (
                f"{path}, line {number}",
                parse_json(line, f"{path}, line {number}", notes, is_last=number == last),
            )


_OTHERS = {
    PARQUET: "Parquet within gzip",
    ARROW: "Arrow within gzip",
    b"PK\x03\x04": "a zip archive",
    b"(\xb5/\xfd": "compressed with zstd",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x80\x04": "a pickle",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def text_of(data: bytes, path: Path) -> str:
    """`data`, the bytes of `path`, as text. Raises `InputError` for what is not UTF-8, with the cause."""
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except EOFError as error:
            hint = "it was cut short: compress or copy it again"
            raise InputError(
                "cannot read the compressed file: it ends too early", where=str(path), hint=hint
            ) from error
        except (OSError, zlib.error) as error:
            hint = "compress or copy it again"
            raise InputError(
                f"cannot read the compressed file: {error}", where=str(path), hint=hint
            ) from error
    for begin, name in _OTHERS.items():
        if data.startswith(begin):
            raise InputError(f"this is {name}", where=str(path), hint="unpack or convert it to JSON lines")
    if data.startswith(_UTF16) or data[:4].count(0) >= 2:
        hint = f"convert it: iconv -f UTF-16 -t UTF-8 {path}"
        raise InputError("not UTF-8 but UTF-16 (or UTF-32) text", where=str(path), hint=hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"not UTF-8 text: {error.reason} at byte {error.start}, line {line}",
            where=str(path),
            hint="save the file as UTF-8",
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
    """Write `parts` to `path` all or nothing.

    Compressed where the name ends in `.gz`; makes missing directories. Raises
    `MissingRequirement` for a full disk, `InputError` for a place not to be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as raw:
            _fill(raw, parts, packed=path.name.endswith(".gz"))
    except OSError as error:
        raise unwritable(path, error) from error


def _fill(raw: BinaryIO, parts: Iterable[str], *, packed: bool) -> None:
    if packed:
        # A fixed time and no name: the same content gives the same bytes.
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
            for part in parts:
                file.write(part.encode())
    else:
        for part in parts:
            raw.write(part.encode())
