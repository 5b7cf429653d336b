"""The episodes of a run by what is asked of them, kept in memory and brought up to date as the run goes on.

Records are read from the store one at a time, when they are shown; here is what filters and lists need.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.data.store_files import trajectory_in
from eto.data.stored import opened
from eto.errors import InputError
from eto.types import Outcome, Phase, Trajectory, outcome_of

_SELECT = """
    SELECT rowid, phase, task_id, sample, failed,
        json_extract(record, '$.task.kind'), json_extract(record, '$.reward'),
        json_extract(record, '$.success'), json_extract(record, '$.stop'),
        json_array_length(record, '$.turns'), json_extract(record, '$.source')
    FROM (
        SELECT rowid, phase, task_id, sample, failed,
            CASE WHEN json_valid(record) THEN record END AS record
        FROM episodes
    )
"""
"""A damaged record has nothing to tell, and hides no other."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What lists show of an episode."""

    row: int
    """Its place in the store, which never changes."""
    phase: str
    task: str
    sample: int
    failed: bool
    kind: str
    reward: float
    success: bool | None
    stop: str
    turns: int
    source: str

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.failed, self.success)


class EpisodeIndex:
    """The episodes in one store. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        """What could not be read when the entries were asked for last, and why."""
        self._entries: dict[int, Entry] = {}
        self._last = 0
        self._lock = threading.Lock()

    def entries(self) -> list[Entry]:
        """All episodes so far that can be read, in the order in which they were first kept."""
        with self._lock:
            if self.path.is_file():
                self._refresh()
            return list(self._entries.values())

    def episode(self, row: int) -> Trajectory:
        """The episode in a row. Raises `InputError` where there is none, or it is damaged."""
        with opened(self.path, []) as store:
            found = store.execute("SELECT record FROM episodes WHERE rowid = ?", (row,)).fetchone()
        if found is None:
            raise InputError("there is no such episode", where=f"{self.path}, row {row}")
        return trajectory_in(found[0], f"{self.path}, row {row}")

    def rows_with(self, text: str) -> set[int]:
        """Rows whose record contains `text`, in whatever case, as JSON writes it."""
        written = json.dumps(text)[1:-1]
        pattern = "".join(f"\\{c}" if c in "\\%_" else c for c in written)
        with opened(self.path, []) as store:
            statement = "SELECT rowid FROM episodes WHERE record LIKE ? ESCAPE '\\'"
            return {row for (row,) in store.execute(statement, (f"%{pattern}%",))}

    def _refresh(self) -> None:
        # A failed episode may be replaced by a later success in the same row.
        open_rows = [entry.row for entry in self._entries.values() if entry.failed]
        rows: list[Sequence[Any]] = []
        notes: list[str] = []
        try:
            with opened(self.path, notes) as store:
                rows.extend(store.execute(f"{_SELECT} WHERE rowid > ? ORDER BY rowid", (self._last,)))
                for start in range(0, len(open_rows), 500):
                    part = open_rows[start : start + 500]
                    marks = ",".join("?" * len(part))
                    rows.extend(store.execute(f"{_SELECT} WHERE rowid IN ({marks})", part))
        except InputError as error:
            notes.append(str(error))
        for row in rows:
            if not (isinstance(row[1], str) and isinstance(row[2], str) and isinstance(row[3], int)):
                notes.append(f"{self.path}, row {row[0]}: the episode is damaged")
                continue
            entry = _entry(row)
            self._entries[entry.row] = entry
            self._last = max(self._last, entry.row)
        # Of a file that was cut off, the end of what is there follows from the cut.
        self.fault = notes[0] if notes else ""


def phases_of(entries: Sequence[Entry]) -> list[str]:
    """The phases that hold an episode, explorations and checkpoints in their order."""
    return sorted({entry.phase for entry in entries}, key=_order)


def _order(phase: str) -> tuple[Any, ...]:
    from eto.evaluation.results import natural

    known = Phase.parse(phase)
    purposes = ("expert", "explore", "continue", "evaluate")
    place = purposes.index(known.purpose) if known.purpose in purposes else len(purposes)
    return place, known.split, natural(known.name)


def _entry(row: Sequence[Any]) -> Entry:
    number, phase, task, sample, failed, kind, reward, success, stop, turns, source = row
    return Entry(
        number,
        phase,
        task,
        sample,
        bool(failed),
        _text(kind),
        float(reward) if isinstance(reward, int | float) else 0.0,
        bool(success) if isinstance(success, int) else None,
        _text(stop),
        turns or 0,
        _text(source),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
