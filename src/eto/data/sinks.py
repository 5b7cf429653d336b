"""Files that items are written to one at a time, and that appear whole: lines, a list, tables, data sets."""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from eto.data.atomic import atomic_directory, atomic_file
from eto.data.columns import Kind, narrowed, packed, seen_in
from eto.data.jsonfiles import json_line
from eto.data.oserrors import unwritable
from eto.errors import MissingRequirement

Write = Callable[[Mapping[str, Any]], None]
TABLES = (".parquet", ".arrow")
_ROWS = 1000
_TEXT = 4 * 2**20
"""Rows, and characters of JSON, of which one part of a table is made."""


@contextmanager
def open_sink(path: Path, columns: Mapping[str, Kind]) -> Iterator[Write]:
    """What writes an item to `path`, which appears when the block ends without an error.

    A name without an ending is a directory as `datasets.save_to_disk` writes it; `.parquet` and `.arrow` are
    tables of those `columns` that hold something; `.json` is one list, any other name JSON lines; `.gz` is
    compressed. Raises `MissingRequirement` for a full disk and for tables without pyarrow, `InputError` for
    a place that cannot be written.
    """
    with _writing(path), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in TABLES or is_directory(path):
            _pyarrow(path)
            spool = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent))
            seen: dict[str, Any] = {}
            yield _keeper(spool, seen)
            spool.seek(0)
            _write_table(path, spool, narrowed(columns, seen))
            return
        file: Any = stack.enter_context(atomic_file(path))
        if path.suffix == ".gz":
            # A fixed time and no name: the same content gives the same bytes.
            file = stack.enter_context(gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0))
        yield _list_writer(file, stack) if is_list(path) else _line_writer(file)


def is_directory(path: Path) -> bool:
    """Whether a name is that of a data set's directory."""
    return path.is_dir() or not path.suffix


def is_list(path: Path) -> bool:
    """Whether a name is that of one JSON list."""
    return path.name.removesuffix(".gz").endswith(".json")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _keeper(spool: IO[str], seen: dict[str, Any]) -> Write:
    def keep(item: Mapping[str, Any]) -> None:
        row = packed(dict(item))
        seen_in(row, seen)
        spool.write(json.dumps(row) + "\n")

    return keep


def _line_writer(file: IO[bytes]) -> Write:
    def write(item: Mapping[str, Any]) -> None:
        file.write(f"{json_line(item)}\n".encode())

    return write


def _list_writer(file: IO[bytes], stack: ExitStack) -> Write:
    begin = "["

    def write(item: Mapping[str, Any]) -> None:
        nonlocal begin
        file.write(f"{begin}\n{json.dumps(item)}".encode())
        begin = ","

    def end() -> None:
        file.write(b"[]\n" if begin == "[" else b"\n]\n")

    stack.callback(end)
    return write


def _write_table(path: Path, spool: IO[str], columns: Mapping[str, Kind]) -> None:
    arrow = _pyarrow(path)
    schema = arrow.schema([(name, _type(kind, arrow)) for name, kind in columns.items()])
    if path.suffix == ".parquet":
        from pyarrow import parquet

        with atomic_file(path) as file, parquet.ParquetWriter(file, schema) as writer:
            for batch in _batches(spool, schema, arrow):
                # Not write_batch(), which keeps a million rows in memory until their group is full.
                writer.write_table(arrow.Table.from_batches([batch]))
    elif path.suffix == ".arrow":
        with atomic_file(path) as file:
            _write_stream(file, spool, schema, arrow)
    else:
        with atomic_directory(path) as folder:
            name = "data-00000-of-00001.arrow"
            with (folder / name).open("wb") as file:
                _write_stream(file, spool, schema, arrow)
            with (folder / name).open("rb") as written:
                mark = hashlib.file_digest(written, "sha256").hexdigest()[:16]
            state: dict[str, Any] = {
                **{"_data_files": [{"filename": name}], "_fingerprint": mark, "_format_columns": None},
                **{"_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None},
            }
            (folder / "state.json").write_text(json.dumps(state, indent=2))
            (folder / "dataset_info.json").write_text("{}\n")


def _write_stream(file: Any, spool: IO[str], schema: Any, arrow: ModuleType) -> None:
    with arrow.ipc.new_stream(file, schema) as writer:
        for batch in _batches(spool, schema, arrow):
            writer.write_batch(batch)


def _batches(spool: IO[str], schema: Any, arrow: ModuleType) -> Iterator[Any]:
    rows: list[dict[str, Any]] = []
    size = 0
    for line in spool:
        rows.append(json.loads(line))
        size += len(line)
        if len(rows) >= _ROWS or size >= _TEXT:
            yield arrow.RecordBatch.from_pylist(rows, schema=schema)
            rows, size = [], 0
    if rows:
        yield arrow.RecordBatch.from_pylist(rows, schema=schema)


def _type(kind: Kind, arrow: ModuleType) -> Any:
    if isinstance(kind, list):
        return arrow.list_(_type(kind[0], arrow))
    if isinstance(kind, dict):
        return arrow.struct([(name, _type(inner, arrow)) for name, inner in kind.items()])
    scalars = {"text": arrow.string(), "int": arrow.int64(), "float": arrow.float64(), "bool": arrow.bool_()}
    return scalars[kind]


def _pyarrow(path: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise MissingRequirement(
            "writing Parquet, Arrow and data sets needs pyarrow",
            where=str(path),
            hint="pip install 'eto-agent[files]', or give --out a name that ends in .jsonl",
        ) from error
    return pyarrow
