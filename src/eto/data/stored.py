"""Episodes of a store, read one at a time: while its run goes on, and where nothing may be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from eto.data.notes import Notes
from eto.data.store_files import check_version, connect_to_read, trajectory_in
from eto.errors import InputError
from eto.types import Phase, Trajectory

_PAGE = 100
"""Episodes that are read at once."""


@contextmanager
def opened(path: Path, notes: list[str] | None = None) -> Iterator[sqlite3.Connection]:
    """`connect_to_read` for the time of a `with` block."""
    with closing(connect_to_read(path, notes)) as store:
        try:
            yield store
        except sqlite3.Error as error:
            raise InputError(f"the episodes cannot be read: {error}", where=str(path)) from None


def stored_phases(path: Path) -> list[str]:
    """The phases that hold a finished episode, sorted."""
    with opened(path) as store:
        statement = "SELECT DISTINCT phase FROM episodes WHERE NOT failed ORDER BY phase"
        return [phase for (phase,) in store.execute(statement)]


def stream_phases(path: Path, phases: list[str], notes: Notes) -> Iterator[tuple[str, Trajectory]]:
    """Finished episodes of `phases`, each with its phase, by task and sample within each. Those that are
    damaged are left out and counted in `notes`, with the place of the first."""
    damaged: list[str] = []
    with opened(path) as store:
        for phase in phases:
            for task, sample, record in _paged(store, phase):
                where = f"phase {phase}, task {task}, sample {sample}"
                try:
                    yield phase, trajectory_in(record, where)
                except InputError as error:
                    damaged.append(f"{error.where}: {error.problem}" if not damaged else "")
    if damaged:
        notes.events[f"damaged episodes left out (the first: {damaged[0]})"] += len(damaged)


def _paged(store: sqlite3.Connection, phase: str) -> Iterator[tuple[str, int, object]]:
    """Task, sample and record of a phase's finished episodes. No lock is held between pages: a run may begin
    to write, however long this takes."""
    statement = f"""
        SELECT task_id, sample, record FROM episodes
        WHERE phase = ? AND NOT failed AND (task_id, sample) > (?, ?)
        ORDER BY task_id, sample LIMIT {_PAGE}
    """
    last: tuple[str, int] = ("", -1)
    while page := store.execute(statement, (phase, *last)).fetchall():
        yield from page
        last = page[-1][:2]


class StoredEpisodes:
    """What can be read of a store, phase by phase, opened for reading alone.

    What cannot be read is left out and stands in `faults`. Of a file that was cut off the episodes before
    the cut are found.
    """

    def __init__(self, path: Path) -> None:
        """Raises `InputError` where there is no store, it is of another version, or it cannot be opened."""
        if not path.is_file():
            raise InputError("there is no trajectory store", where=str(path), hint="check the run directory")
        self.path = path
        self.faults: list[InputError] = []
        notes: list[str] = []
        with opened(path, notes) as store:
            (version,) = store.execute("PRAGMA user_version").fetchone()
        check_version(version, path)
        for note in notes:
            self._note(InputError(note, hint="restore the file"))

    def phases(self) -> list[Phase]:
        """The phases that hold an episode, failed ones included, in the order in which they were begun."""
        begun: dict[str, int] = {}
        for phase, row in self._rows("SELECT phase, rowid FROM episodes", "", ()):
            if isinstance(phase, str):  # of a page that was cut off there is nothing
                begun[phase] = min(row, begun.get(phase, row))
        return [Phase.parse(text) for text in sorted(begun, key=begun.__getitem__)]

    def get(self, phase: Phase, *, failed: bool = False) -> list[Trajectory]:
        """Finished episodes of a phase, by task id, then sample; those that failed where `failed` is set."""
        select, wanted = "SELECT task_id, sample, record FROM episodes", "WHERE phase = ? AND failed = ?"
        found = []
        rows = self._rows(select, wanted, (phase.text, int(failed)))
        whole = [row for row in rows if tuple(map(type, row)) == (str, int, str)]
        if len(whole) < len(rows):
            problem = f"{len(rows) - len(whole)} episodes of phase {phase.text} are damaged"
            self._note(InputError(problem, where=str(self.path), hint="restore the file"))
        for task, sample, record in sorted(whole):
            where = f"{self.path}, phase {phase.text}, task {task}, sample {sample}"
            try:
                found.append(trajectory_in(record, where))
            except InputError as error:
                self._note(error)
        return found

    def _rows(self, select: str, wanted: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """By the index, and where that is damaged by the table, as far as it goes."""
        rows: list[tuple[Any, ...]] = []
        for plan in ("", " NOT INDEXED "):
            rows.clear()
            try:
                with opened(self.path, []) as store:
                    rows.extend(store.execute(f"{select}{plan} {wanted}", values))
                return rows
            except InputError as error:
                fault = error
        if not self.faults:  # what follows from a cut is no other fault
            self._note(fault)
        return rows

    def _note(self, fault: InputError) -> None:
        if str(fault) not in map(str, self.faults):
            self.faults.append(fault)


def spread_episodes(path: Path, phase: str, most: int) -> list[Trajectory]:
    """At most `most` finished episodes of a phase, evenly spread over its tasks, the first sample of each:
    of phases on the same tasks, those of the same tasks. Damaged ones are left out; none where there is no
    store."""
    keys = "SELECT task_id, MIN(sample) FROM episodes WHERE phase = ? AND NOT failed GROUP BY task_id"
    one = "SELECT record FROM episodes WHERE phase = ? AND task_id = ? AND sample = ?"
    found: list[Trajectory] = []
    if not path.exists() or most < 1:
        return found
    with opened(path, []) as store:
        known = store.execute(f"{keys} ORDER BY task_id", (phase,)).fetchall()
        count = min(most, len(known))
        for task, sample in (known[place * len(known) // count] for place in range(count)):
            [record] = store.execute(one, (phase, task, sample)).fetchone()
            where = f"phase {phase}, task {task}, sample {sample}"
            with suppress(InputError):
                found.append(trajectory_in(record, where))
    return found
