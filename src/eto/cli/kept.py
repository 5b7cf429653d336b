"""What one command has made so far, kept beside its output while it is under way, so that it can resume."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.data.files import cut_torn_row, disk_errors, finite, read_json, read_rows, write_json
from eto.data.oserrors import unwritable
from eto.data.pair_scores import Key, Scored, read_sums
from eto.data.store import TrajectoryStore
from eto.errors import RunConflict
from eto.experiment.recipe import Recipe, free_fields, recipe_diff
from eto.experiment.run import acquire, release
from eto.settings import Settings
from eto.types import Phase

if TYPE_CHECKING:
    from eto.experiment.watch import Watcher
    from eto.training.loop import StepResult

_WRITING = "writing"
"""Mark of a command that began to write its outputs: what stands there then is its own."""


class Beside:
    """The directory `.OUT.part`: the command that began it, held by one process at a time.

    overwrite: what another command began to write is dropped.

    Raises `RunConflict` where another process holds it or another command began it, `InputError` where
    it cannot be written, `MissingRequirement` on a full disk.
    """

    def __init__(self, out: Path, command: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self._done = False
        self.directory = _beside(out)
        with disk_errors(self.directory):
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritable(self.directory, error) from error
            self._lock = acquire(self.directory / "lock")
            try:
                self._accept(out, command, overwrite)
                self._open()
            except BaseException:
                release(self._lock)
                raise

    def _accept(self, out: Path, command: Mapping[str, Any], overwrite: bool) -> None:
        path = self.directory / "command.json"
        if not path.exists():
            write_json(path, command)
            return
        changed = _changed(path, command)
        if changed and overwrite:
            for kept in self.directory.iterdir():
                if kept.is_dir():
                    shutil.rmtree(kept)
                elif kept.name != "lock":
                    kept.unlink()
            write_json(path, command)
        elif changed:
            raise RunConflict(
                f"what another command began for {out} is kept here\n  " + "\n  ".join(changed),
                where=str(self.directory),
                hint="give that command again to resume it, another --out, or --overwrite to drop it",
            )

    def _open(self) -> None:
        """Begin to use what is kept."""

    def _close(self) -> bool:
        """End it; whether there is anything to resume."""
        return False

    def __exit__(self, *_: object) -> None:
        resumable = self._close() or (self.directory / _WRITING).exists()
        if not resumable:
            self._done = True
        if self._done:
            shutil.rmtree(self.directory, ignore_errors=True)
        release(self._lock)

    def write(self) -> None:
        """From now on the outputs are written: a later start of the same command may replace them."""
        with disk_errors(self.directory):
            (self.directory / _WRITING).touch()

    def finish(self) -> None:
        """All stands in the output now: what was kept is deleted at the end."""
        self._done = True


class Kept(Beside):
    """As `Beside`, with each episode of the command as it ended."""

    store: TrajectoryStore

    def say_resuming(self, phase: Phase, total: int, watch: Watcher) -> None:
        """Tell how many episodes of a phase an earlier start has left, if any."""
        if earlier := self.store.count(phase):
            watch.say(f"resuming: {earlier} of {total} are kept in {self.directory}")

    def __enter__(self) -> Kept:
        return self

    def _open(self) -> None:
        self.store = TrajectoryStore(self.directory / "episodes.sqlite")

    def _close(self) -> bool:
        played = any(t.turns for phase in self.store.phases() for t in self.store.get(phase))
        self.store.close()
        return played


class KeptTraining(Beside):
    """As `Beside`, with the state of a training and the figures of its steps."""

    metrics: Path
    _logged: set[int]

    def __enter__(self) -> KeptTraining:
        return self

    def _open(self) -> None:
        self.metrics = self.directory / "metrics.jsonl"
        cut_torn_row(self.metrics)
        self._logged = {row["step"] for row in read_rows(self.metrics, "step")}

    def _close(self) -> bool:
        return any(self.directory.glob("state*/step.json"))

    def log(self, stage: str, step: StepResult) -> None:
        """Append a step to metrics.jsonl, unless an earlier start has; NaN and infinity become null."""
        if step.step in self._logged:
            return
        self._logged.add(step.step)
        line = json.dumps(finite({"stage": stage, **step.row}), allow_nan=False) + "\n"
        with disk_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(line)


class KeptSums(Beside):
    """As `Beside`, with what agents make of pairs, pair by pair."""

    file: Path
    sums: dict[Key, Scored | None]
    """What an earlier start has left."""

    def __enter__(self) -> KeptSums:
        return self

    def _open(self) -> None:
        self.file = self.directory / "sums.jsonl"
        cut_torn_row(self.file)
        self.sums = read_sums(self.file)

    def _close(self) -> bool:
        return self.file.exists()


_SECTIONS = {
    "expert": ("seed",),
    "replay": (),
    "explore": ("seed", "model", "rollout", "explore"),
    "evaluate": ("seed", "model", "rollout", "evaluation"),
}
"""Beside the environment, what decides the episodes of each command."""


def stopped_writing(out: Path, command: Mapping[str, Any]) -> bool:
    """Whether this very command was killed while it wrote: then it may replace what stands at `out`."""
    directory = _beside(out)
    path = directory / "command.json"
    return (directory / _WRITING).exists() and path.exists() and not _changed(path, command)


def _beside(out: Path) -> Path:
    return out.absolute().with_name(f".{out.name}.part")


def _changed(path: Path, command: Mapping[str, Any]) -> list[str]:
    """What sets `command` apart from the one in `path`; through JSON, as that was kept."""
    return recipe_diff(read_json(path), json.loads(json.dumps(command)))


def command_of(
    name: str, split: str, recipe: Recipe, model: str | None = None, **more: Any
) -> dict[str, Any]:
    """What decides the episodes of a command, as JSON values by field. split: "" for one that plays none."""
    values = recipe.model_dump(mode="json")
    values["explore"] = values["method"].get("explore")
    chosen = {key: values[key] for key in ("environment", *_SECTIONS[name])}
    free = free_fields(recipe)
    environment = {k: v for k, v in chosen["environment"].items() if f"environment.{k}" not in free}
    command = {"command": name, "split": split, **chosen, "environment": environment}
    if split:
        command["tasks"] = {f"{split}_per_kind": values["tasks"].get(f"{split}_per_kind")}
    if "model" in command:
        command["model"] = {**command["model"], **facts_of(model or recipe.model.path)}
    return command | more


def training_of(
    name: str,
    recipe: Recipe,
    model: str | None,
    settings: Sequence[Settings],
    files: Mapping[str, Path | None],
) -> dict[str, Any]:
    """What decides the result of a training command, as JSON values; of `files` the contents."""
    values = recipe.model_dump(mode="json")
    sections = {type(each).__name__: each.model_dump(mode="json") for each in settings}
    contents = contents_of(files)
    model_facts = {**values["model"], **facts_of(model or recipe.model.path)}
    return {"command": name, "seed": values["seed"], "model": model_facts, **sections, "contents": contents}


def contents_of(files: Mapping[str, Path | None]) -> dict[str, str]:
    """A short hash of the content of each file, or directory of files."""
    return {option: _content(path) for option, path in files.items() if path is not None}


def _content(path: Path) -> str:
    parts = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for part in parts:
        name = part.relative_to(path).as_posix() if part != path else ""
        whole.update(f"{name} {part.stat().st_size}\n".encode())
        whole.update(part.read_bytes())
    return whole.hexdigest()[:16]


def facts_of(path: str) -> dict[str, str]:
    """Which model this is: its place, and of a local one a hash of its files' names, sizes and times."""
    local = Path(path).expanduser()
    return {"path": str(local.resolve()) if local.is_dir() else path, "files": _fingerprint(local)}


def _fingerprint(directory: Path) -> str:
    """Names, sizes and times of a local model's files as a short hash; "" for a model from elsewhere."""
    if not directory.is_dir():
        return ""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    states = "\n".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return hashlib.sha256(states.encode()).hexdigest()[:16]
