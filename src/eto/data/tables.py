"""Items of Parquet and Arrow files, and of directories that `datasets` saved.

Columns of structs give every item the keys of all others, filled with null: such keys are left
out, so that an item is what it was before it became a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from eto.data.jsontext import parse_json
from eto.data.texts import brief
from eto.errors import InputError, MissingRequirement

PARQUET, ARROW = b"PAR1", b"ARROW1"
SUFFIXES = (".parquet", ".arrow")


ROWS = 256
"""Rows that become Python objects at a time."""


def stream_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file, without their nulls; a part of them is in memory.

    Raises `MissingRequirement` without pyarrow, `InputError` for a damaged file.
    """
    arrow = _pyarrow(path)
    with _damage(path, arrow):
        for batch in _batches(path, arrow):
            for start in range(0, batch.num_rows, ROWS):
                for row in batch.slice(start, ROWS).to_pylist():
                    yield _without_nulls(row)


def _batches(path: Path, arrow: ModuleType) -> Iterator[Any]:
    with path.open("rb") as file:
        begin = file.read(len(ARROW))
    if begin.startswith(PARQUET):
        from pyarrow import parquet

        # Not read_table(), which takes folder names such as split=train for columns.
        with parquet.ParquetFile(path) as table:
            yield from table.iter_batches(batch_size=ROWS)
    elif begin == ARROW:
        with arrow.memory_map(str(path)) as file, arrow.ipc.open_file(file) as table:
            yield from (table.get_batch(number) for number in range(table.num_record_batches))
    else:
        with arrow.memory_map(str(path)) as file, arrow.ipc.open_stream(file) as table:
            yield from table


def stream_saved_dataset(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a directory written by `Dataset.save_to_disk`, without their nulls.

    Raises `InputError` for any other directory, and for one of several splits, naming them.
    """
    if (path / "dataset_dict.json").is_file():
        splits = _state_of(path / "dataset_dict.json").get("splits")
        names = [str(name) for name in splits] if isinstance(splits, list) and splits else ["train"]
        raise InputError(
            f"a saved DatasetDict with the splits {', '.join(names)}",
            where=str(path),
            hint=f"name one of them: {path / names[0]}",
        )
    if not (path / "state.json").is_file():
        files = sorted(
            each.name for each in path.iterdir() if each.name.endswith((*SUFFIXES, ".json", ".jsonl"))
        )
        named = f"name one of its files: {', '.join(files[:5])}" if files else "give the name of a file"
        raise InputError(
            "a directory, and not one that datasets.save_to_disk wrote", where=str(path), hint=named
        )
    state = _state_of(path / "state.json")
    if any(state.get(key) for key in ("_indices_data_files", "_indices_files")):
        raise InputError(
            "the data set is a selection whose rows are kept apart (indices)",
            where=str(path),
            hint="save it again with a current version of datasets, or write it with to_parquet()",
        )
    for name in _data_files(state, path / "state.json"):
        yield from stream_table(path / name)


def _data_files(state: dict[str, Any], where: Path) -> list[str]:
    """The names of a data set's tables, which stand beside its state."""
    given = state.get("_data_files") or []
    entries = given if isinstance(given, list) else [given]
    names: list[str] = []
    for entry in entries:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or Path(name).name != name:
            problem = f"field '_data_files': {brief(name)} is no name of a file in this directory"
            raise InputError(problem, where=str(where), hint="save the data set again")
        names.append(name)
    return names


def _state_of(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_text(encoding="utf-8"), str(path), is_last=True)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read it: {error}", where=str(path), hint="save the data set again"
        ) from error
    if not isinstance(value, dict):
        raise InputError("expected a JSON object", where=str(path), hint="save the data set again")
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _pyarrow(path: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise MissingRequirement(
            "reading Parquet and Arrow needs pyarrow",
            where=str(path),
            hint="pip install 'eto-agent[files]', or convert the file to JSON lines",
        ) from error
    return pyarrow


@contextmanager
def _damage(path: Path, arrow: ModuleType) -> Iterator[None]:
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"not a readable table: {problem[:200]}", where=str(path), hint="write or copy the file again"
        ) from error
