"""Trajectories of a run in one SQLite file, each committed as its episode ends.

A row is keyed by (phase, task id, sample), so that an episode is counted once however
often a run is stopped and started.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from eto.data.jsonfiles import json_line
from eto.data.records import trajectory_to_record
from eto.data.store_files import VERSION, check_version, connect_to_read, trajectory_in
from eto.errors import EtoError, InputError, MissingRequirement, RunConflict
from eto.types import Phase, Trajectory

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS episodes (
    phase TEXT NOT NULL,
    task_id TEXT NOT NULL,
    sample INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (phase, task_id, sample)
);
PRAGMA user_version = {VERSION};
"""
_ADD = """
INSERT INTO episodes VALUES (?, ?, ?, ?, ?)
ON CONFLICT (phase, task_id, sample)
DO UPDATE SET failed = excluded.failed, record = excluded.record WHERE episodes.failed
"""


class TrajectoryStore:
    """An append-only collection of trajectories on disk.

    `add` returns after the commit has reached the disk: neither `kill -9` nor a power cut
    loses the episode. Threads may share a store. Episodes that failed are kept aside: only
    `failures` returns them, and a later success of the same key takes their place.

    read_only: the store must be there and is only read, as `connect_to_read` does it: of a run that goes on,
    too, and where nothing may be written.

    Raises `InputError` where `path` cannot be opened or is not such a store, `MissingRequirement` on
    a full disk, `RunConflict` when another process keeps it locked.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._lock, self._read_only = threading.Lock(), read_only
        self._db = self._found() if read_only else self._opened()
        try:
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version or read_only:
                check_version(version, self.path)
            if not read_only:
                self._prepare(empty=version == 0)
        except sqlite3.Error as error:
            self._db.close()
            raise self._refused(error) from error
        except EtoError:
            self._db.close()
            raise

    def _found(self) -> sqlite3.Connection:
        if not self.path.is_file():
            hint = "check the run directory"
            raise InputError("there is no trajectory store", where=str(self.path), hint=hint)
        return connect_to_read(self.path)

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: every statement is its own transaction.
            return sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from error

    def _prepare(self, *, empty: bool) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # one fsync an episode, against a power cut
        if empty:
            self._db.executescript(_SCHEMA)

    def add(self, phase: Phase, trajectory: Trajectory) -> bool:
        """Commit one trajectory under (phase, task id, sample).

        Returns True when it was stored. A key that holds a finished episode keeps it, and
        the newcomer is dropped (False): what was counted once stays as it was counted. A
        key that holds a failed episode takes the newcomer.
        """
        row = (
            phase.text,
            trajectory.task.id,
            trajectory.sample,
            int(trajectory.failed),
            json_line(trajectory_to_record(trajectory)),
        )
        try:
            with self._lock:
                return self._db.execute(_ADD, row).rowcount == 1
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def copy(self, phase: Phase, source: TrajectoryStore) -> None:
        """Add what `source` holds of a phase, failed episodes included, all or nothing.

        Keys that are here already are treated as by `add`.
        """
        rows = source._query("SELECT * FROM episodes WHERE phase = ?", (phase.text,))
        try:
            with self._lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(_ADD, rows)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def get(self, phase: Phase) -> list[Trajectory]:
        """Finished trajectories of a phase, by task id, then sample; failed ones are left out."""
        return self._read(phase, failed=False)

    def failures(self, phase: Phase) -> list[Trajectory]:
        """Failed trajectories of a phase that no later success replaced, in the same order."""
        return self._read(phase, failed=True)

    def done(self, phase: Phase, *, failed: bool = False) -> set[tuple[str, int]]:
        """(task id, sample) of finished trajectories; with `failed`, also of those set aside."""
        statement = "SELECT task_id, sample FROM episodes WHERE phase = ? AND failed <= ?"
        return set(self._query(statement, (phase.text, int(failed))))

    def count(self, phase: Phase) -> int:
        """Number of finished trajectories of a phase."""
        statement = "SELECT COUNT(*) FROM episodes WHERE phase = ? AND NOT failed"
        return self._query(statement, (phase.text,))[0][0]

    def phases(self) -> list[Phase]:
        """The phases that hold a trajectory, failed ones included, sorted by their text."""
        statement = "SELECT DISTINCT phase FROM episodes ORDER BY phase"
        return [Phase.parse(text) for (text,) in self._query(statement, ())]

    def _read(self, phase: Phase, *, failed: bool) -> list[Trajectory]:
        statement = """
            SELECT task_id, sample, record FROM episodes
            WHERE phase = ? AND failed = ? ORDER BY task_id, sample
        """
        trajectories = []
        for task_id, sample, record in self._query(statement, (phase.text, int(failed))):
            where = f"{self.path}, phase {phase.text}, task {task_id}, sample {sample}"
            trajectories.append(trajectory_in(record, where))
        return trajectories

    def _query(self, statement: str, values: tuple[object, ...]) -> list[tuple]:
        try:
            with self._lock:
                return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error | OSError) -> EtoError:
        # Extended codes carry the primary code in their low byte.
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        where = str(self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return RunConflict(
                "another process keeps the store locked", where=where, hint="stop the other process"
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            cause = "free disk space" if code == sqlite3.SQLITE_FULL else "free disk space, or check the disk"
            return MissingRequirement(
                f"cannot store trajectories: {error}",
                where=where,
                hint=f"{cause}, then run the same command: what was stored is kept",
            )
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return InputError(
                f"not a trajectory store: {error}", where=where, hint="move the file away, or restore it"
            )
        return InputError(
            f"cannot open or write the store: {error}",
            where=where,
            hint="choose a directory you may write to",
        )

    def close(self) -> None:
        """Close the file. Safe to call twice.

        After the last writer it is one file without a log: who reads it then need not make one.
        """
        if not self._read_only:
            with self._lock, suppress(sqlite3.Error):  # it is read now, closed already, or the disk is full
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    def __enter__(self) -> TrajectoryStore:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
