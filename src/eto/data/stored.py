"""Episodes of a store, read one at a time: while its run goes on, and where nothing may be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eto.data.jsontext import parse_json
from eto.data.notes import Notes
from eto.data.records import trajectory_from_record
from eto.errors import InputError
from eto.types import Trajectory


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The store at `path`, read-only; where its directory cannot be written, the file as it is, without
    its log. Raises `InputError` where it cannot be read."""
    for options in ("mode=ro", "mode=ro&immutable=1"):
        store = None
        try:
            store = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=10)
            store.execute("SELECT 1 FROM episodes LIMIT 1").fetchall()
        except sqlite3.Error as error:
            if store is not None:
                store.close()
            problem = f"the episodes cannot be read: {error}"
            continue
        try:
            yield store
        except sqlite3.Error as error:
            raise InputError(f"the episodes cannot be read: {error}", where=str(path)) from None
        finally:
            store.close()
        return
    raise InputError(problem, where=str(path), hint="check the run directory, or restore the file")


def stored_phases(path: Path) -> list[str]:
    """The phases that hold a finished episode, sorted."""
    with opened(path) as store:
        statement = "SELECT DISTINCT phase FROM episodes WHERE NOT failed ORDER BY phase"
        return [phase for (phase,) in store.execute(statement)]


def stream_phases(path: Path, phases: list[str], notes: Notes) -> Iterator[tuple[str, Trajectory]]:
    """Finished episodes of `phases`, each with its phase, by task and sample within each. Those that are
    damaged are left out and counted in `notes`, with the place of the first."""
    statement = """
        SELECT task_id, sample, record FROM episodes
        WHERE phase = ? AND NOT failed ORDER BY task_id, sample
    """
    damaged: list[str] = []
    with opened(path) as store:
        for phase in phases:
            for task, sample, record in store.execute(statement, (phase,)):
                where = f"phase {phase}, task {task}, sample {sample}"
                try:
                    yield phase, trajectory_from_record(parse_json(record, where), where)
                except InputError as error:
                    damaged.append(f"{error.where}: {error.problem}" if not damaged else "")
    if damaged:
        notes.events[f"damaged episodes left out (the first: {damaged[0]})"] += len(damaged)


def spread_episodes(path: Path, phase: str, most: int) -> list[Trajectory]:
    """At most `most` finished episodes of a phase, evenly spread over its tasks, the first sample of each:
    of phases on the same tasks, those of the same tasks. Damaged ones are left out; none where there is no
    store."""
    keys = "SELECT task_id, MIN(sample) FROM episodes WHERE phase = ? AND NOT failed GROUP BY task_id"
    one = "SELECT record FROM episodes WHERE phase = ? AND task_id = ? AND sample = ?"
    found: list[Trajectory] = []
    if not path.exists() or most < 1:
        return found
    with opened(path) as store:
        known = store.execute(f"{keys} ORDER BY task_id", (phase,)).fetchall()
        count = min(most, len(known))
        for task, sample in (known[place * len(known) // count] for place in range(count)):
            [record] = store.execute(one, (phase, task, sample)).fetchone()
            where = f"phase {phase}, task {task}, sample {sample}"
            with suppress(InputError):
                found.append(trajectory_from_record(parse_json(record, where), where))
    return found
