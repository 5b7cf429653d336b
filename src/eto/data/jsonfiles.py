"""Reading and writing JSON files so that a mistake names its line and a crash leaves no half file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from eto.data.atomic import atomic_file
from eto.data.jsontext import parse_json
from eto.data.notes import Notes
from eto.data.oserrors import unreadable, unwritable
from eto.data.tables import ARROW, PARQUET, SUFFIXES, stream_saved_dataset, stream_table
from eto.data.textlines import TextLines
from eto.errors import InputError


def read_items(path: str | Path, notes: Notes | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a data file: JSON lines, a JSON list or one object, `.gz` allowed; Parquet,
    Arrow, and a directory written by `datasets.save_to_disk`.

    Returns (where, object) pairs; `where` names the file and the line (JSON lines, from 1), the
    item (JSON list, from 0) or the row (tables, from 0). Unpaired surrogates become U+FFFD, and
    are counted in `notes`, or reported where none are given. Raises `InputError` for a file that is
    missing, unreadable, empty, cut short, not UTF-8, not JSON, or not made of objects.
    """
    counted = Notes() if notes is None else notes
    items = list(stream_items(path, counted))
    if notes is None:
        counted.tell(path)
    return items


def stream_items(path: str | Path, notes: Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of `read_items`, one at a time: of lines and tables, a part is in memory; a JSON list is
    read whole."""
    path = Path(path)
    empty = True
    for where, value in _values(path, notes):
        empty = False
        if not isinstance(value, dict):
            raise InputError(
                f"expected a JSON object, found {type(value).__name__}",
                where=where,
                hint="write one JSON object a line, or a JSON list of objects",
            )
        yield where, value
    if empty:
        raise InputError("the file is empty", where=str(path), hint="give a file with at least one item")


def _values(path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    try:
        if path.is_dir():
            head = None
        else:
            with path.open("rb") as file:
                head = file.read(len(ARROW))
    except OSError as error:
        raise unreadable(path, error) from error
    if head is None or head.startswith((PARQUET, ARROW)) or path.suffix in SUFFIXES:
        rows = stream_saved_dataset(path) if head is None else stream_table(path)
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows))
        return
    with TextLines(path) as lines:
        first = next((line for line in lines if line.strip()), "")
        if first.lstrip().startswith("["):
            text = "".join(("\n" * (lines.number - 1), first, *lines))
            values = parse_json(text, str(path), notes, is_last=True)
            yield from ((f"{path}, item [{number}]", value) for number, value in enumerate(values))
        else:
            yield from _values_of_lines(first, lines, notes)


def _values_of_lines(first: str, lines: TextLines, notes: Notes) -> Iterator[tuple[str, Any]]:
    """The value of each line that is not blank; `first` is the one that was taken from `lines` last."""
    line, number, path = first, lines.number, str(lines.path)
    while line:
        following = next((each for each in lines if each.strip()), "")
        where = f"{path}, line {number}"
        if line.strip() == "{" and following:
            # One object over several lines, as an editor lays it out.
            blank = "\n" * (lines.number - number - 1)
            rest = "".join((line, blank, following, *lines))
            yield where, parse_json(rest, path, notes, is_last=True)
            return
        yield where, parse_json(line.rstrip("\n"), where, notes, is_last=not following)
        line, number = following, lines.number


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
