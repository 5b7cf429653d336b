"""JSON values by key, on disk while a store is built: those of the full files do not fit in little memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


class JsonTable(Mapping[str, Any]):
    """A mapping in a file of its own, which goes with it. A key given twice has its last value."""

    def __init__(self, path: Path, pairs: Iterable[tuple[str, Any]]) -> None:
        """Raises whatever `pairs` does, and `sqlite3.Error` where the file cannot be written."""
        self._path = path
        self._database = sqlite3.connect(path)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;"
            "CREATE TABLE found (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
        )
        try:
            # As JSON texts, keys too: they may hold what SQLite's texts may not.
            texts = ((json.dumps(key), json.dumps(value)) for key, value in pairs)
            self._database.executemany("REPLACE INTO found VALUES (?, ?)", texts)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JsonTable:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it and deletes its file."""
        self._database.close()
        self._path.unlink(missing_ok=True)

    def __getitem__(self, key: str) -> Any:
        query = "SELECT value FROM found WHERE key = ?"
        row = self._database.execute(query, (json.dumps(key),)).fetchone()
        if row is None:
            raise KeyError(key)
        return json.loads(row[0])

    def __iter__(self) -> Iterator[str]:
        for (key,) in self._database.execute("SELECT key FROM found"):
            yield json.loads(key)

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM found").fetchone()[0]
