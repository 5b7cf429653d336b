"""The run directory: one recipe, its stages and their artefacts, and what is needed to resume after a kill.

    with Run.open(recipe.directory, recipe) as run, run.stage("sft") as stage:
        if not stage.done:
            train(stage.directory)
            stage.note(loss=0.3)

A stage that finished has `stages/<name>/DONE`, and its results are in its directory; one that did not is
made again there, where it finds its earlier checkpoints. Files are written next to their place,
synced and renamed, so a reader sees the old content or the new, never a part of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import cut_torn_row, disk_errors, finite, read_rows, write_atomic, write_json
from eto.errors import RunConflict
from eto.experiment.recipe import RUN_FILE, Recipe, free_fields, recipe_diff, recorded, resolved_yaml
from eto.experiment.recipe_yaml import read_text
from eto.experiment.run_records import check_place, read_done, read_manifest
from eto.experiment.stage import OpenStage, stopwatch
from eto.machine import describe_machine
from eto.runtime import release_memory

if TYPE_CHECKING:
    from eto.data.store import TrajectoryStore


class Run:
    """An open run directory, held by this process alone. Make one with `Run.open`."""

    def __init__(self, directory: Path, recipe: Recipe, lock: int) -> None:
        self.directory, self.recipe, self._lock = directory, recipe, lock
        self.notes: list[str] = []
        """What a person should know about this start: fields and versions that differ from the first."""
        self._logged: set[tuple[Any, ...]] = set()

    @classmethod
    def open(cls, directory: str | Path, recipe: Recipe) -> Run:
        """Create or resume the run in `directory`.

        Raises `RunConflict` when another process holds it or it belongs to a recipe that would give
        other results, `InputError` when it cannot be written, `MissingRequirement` when the disk is full.
        """
        directory = Path(directory)
        with disk_errors(directory):
            check_place(directory)
            (directory / "stages").mkdir(parents=True, exist_ok=True)
            run = cls(directory, recipe, acquire(directory / "lock"))
            try:
                run._accept_recipe()
                run._note_start()
                run._mend_metrics()
            except BaseException:
                run.close()
                raise
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes have the directory. Safe to call twice."""
        if "store" in self.__dict__:  # opened
            self.store.close()
        if self._lock >= 0:
            release(self._lock)
            self._lock = -1

    @contextmanager
    def stage(self, name: str) -> Iterator[OpenStage]:
        """Stage `name` for the time of a `with` block, which makes it where it is not `done`.

        Left without an error, the block is kept as done: the stage's notes are in DONE as JSON, beside the
        wall seconds of all attempts.
        """
        path = self.stage_directory(name)
        noted = self.done(name)
        if noted is not None:
            yield OpenStage(name, path, True, dict(noted["metrics"]))
            return
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        stage = OpenStage(name, path, False)
        with disk_errors(path, full_only=True):
            with stopwatch(path / "seconds") as seconds:
                yield stage
            record = {"stage": name, "seconds": round(seconds(), 3), "finished": _now()}
            write_json(path / "DONE", {**record, "metrics": stage.metrics, **stage.made})
        release_memory()

    def stage_directory(self, name: str) -> Path:
        """Where stage `name` keeps its artefacts; not created here."""
        parts = name.split("/")
        if not all(parts) or any(part.startswith(".") for part in parts):
            raise ValueError(f"not a stage name: {name!r}")
        return self.directory.joinpath("stages", *parts)

    def done(self, name: str) -> dict[str, Any] | None:
        """What a finished stage noted: stage, seconds, finished, metrics; None where it is not done."""
        path = self.stage_directory(name) / "DONE"
        return read_done(path) if path.exists() else None

    def log(self, stage: str, **fields: Any) -> None:
        """Append a row to metrics.jsonl. A row with a `step` that exists already (same stage, agent
        and step, from before a kill) is not written again; infinite and NaN values become null."""
        row = {"stage": stage, **fields}
        key = _row_key(row)
        if key is not None and key in self._logged:
            return
        line = json.dumps(finite(row), allow_nan=False) + "\n"
        with disk_errors(self._metrics), self._metrics.open("ab") as file:
            file.write(line.encode())
        if key is not None:
            self._logged.add(key)

    def logged(self, stage: str | None = None) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, of one stage or of all."""
        return [
            row for row in read_rows(self._metrics, "stage") if stage is None or row.get("stage") == stage
        ]

    def record_splits(self, splits: Mapping[str, Sequence[str]]) -> None:
        """Note each split's size and hash of task ids in the manifest.

        Raises `RunConflict` when the run was started on other tasks.
        """
        splits_now: dict[str, dict[str, Any]] = {
            name: {"tasks": len(ids), "sha256": split_hash(ids)} for name, ids in splits.items()
        }
        manifest = self.manifest
        changed = [
            f"{name}: {known['tasks']} tasks {known['sha256'][:12]} -> "
            f"{splits_now[name]['tasks']} tasks {splits_now[name]['sha256'][:12]}"
            for name, known in manifest["splits"].items()
            if name in splits_now and splits_now[name] != known
        ]
        if changed:
            raise RunConflict(
                "the run was started on other tasks\n  " + "\n  ".join(changed),
                where=str(self.directory),
                hint="install the environment's version in manifest.json, or take another run directory",
            )
        self.add_to_manifest(splits={**manifest["splits"], **splits_now})

    def add_to_manifest(self, **entries: Any) -> None:
        """Note `entries` in the manifest, in place of earlier ones of the same name."""
        with disk_errors(self.directory):
            self._write_manifest({**self.manifest, **entries})

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, hardware, seeds, split hashes and every start of the run."""
        return read_manifest(self.directory)

    @cached_property
    def store(self) -> TrajectoryStore:
        """The run's trajectories, opened on first use."""
        from eto.data.store import TrajectoryStore

        return TrajectoryStore(self.directory / "trajectories.sqlite")

    @property
    def _metrics(self) -> Path:
        return self.directory / "metrics.jsonl"

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_json(self.directory / "manifest.json", manifest)

    def _accept_recipe(self) -> None:
        path = self.directory / RUN_FILE
        if path.exists():
            lines = recipe_diff(recorded(read_text(path), source=str(path)), self.recipe)
            free = free_fields(self.recipe)
            changed = [line for line in lines if line.split(":")[0] not in free]
            if changed:
                raise RunConflict(
                    "the run directory belongs to another recipe\n  " + "\n  ".join(changed),
                    where=str(self.directory),
                    hint="take another directory (run_directory=...), or the recipe the run was started with",
                )
            self.notes += lines
        else:
            write_atomic(path, resolved_yaml(self.recipe))

    def _note_start(self) -> None:
        machine = describe_machine()
        if (self.directory / "manifest.json").exists():
            manifest = self.manifest
            self.notes += recipe_diff({"versions": manifest["versions"]}, {"versions": machine["versions"]})
        else:
            seeds = {"seed": self.recipe.seed}
            manifest = {"created": _now(), **machine, "seeds": seeds, "splits": {}, "starts": []}
        start = {"time": _now(), "command": sys.argv, "pid": os.getpid(), "changed": self.notes}
        self._write_manifest({**manifest, "starts": [*manifest["starts"], start]})

    def _mend_metrics(self) -> None:
        """Cut a last line that a kill left half-written, and learn which rows exist."""
        cut_torn_row(self._metrics)
        self._logged = {
            key for row in read_rows(self._metrics, "stage") if (key := _row_key(row)) is not None
        }


def split_hash(task_ids: Sequence[str]) -> str:
    """SHA-256 of a split's task ids, whatever their order."""
    return hashlib.sha256("\n".join(sorted(task_ids)).encode()).hexdigest()


def acquire(path: Path) -> int:
    """An open descriptor that holds the exclusive lock on `path`, until `release` or the process's end.

    Raises `RunConflict` where another process holds it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "an unknown process"
        os.close(lock)
        raise RunConflict(
            f"the directory is in use by {holder}",
            where=str(path.parent),
            hint="wait for it, stop it, or write into another one",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    _held.add(lock)
    return lock


def release(lock: int) -> None:
    """Give up what `acquire` returned."""
    _held.discard(lock)
    os.close(lock)


def _release_in_child() -> None:
    """A forked worker that outlives a killed run must not keep the lock."""
    while _held:
        os.close(_held.pop())


_held: set[int] = set()
os.register_at_fork(after_in_child=_release_in_child)


def _row_key(row: Mapping[str, Any]) -> tuple[Any, ...] | None:
    return (row["stage"], row.get("agent"), row["step"]) if "step" in row else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
