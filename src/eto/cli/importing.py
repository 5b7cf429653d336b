"""`eto import`: files of any known form to the project's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from eto.cli.outputs import DATA, check_file, inputs_of
from eto.cli.terminal import say
from eto.data.columns import columns_of
from eto.data.items import ItemReader
from eto.data.records import pair_to_record, trajectory_to_record
from eto.data.sinks import Write, is_directory, open_sink
from eto.data.texts import counted, shown
from eto.errors import InputError
from eto.types import Pair, Trajectory

PARTS = ("successes", "failures", "pairs")
"""Files of a directory: what solved its task, what did not, and ready-made pairs."""


class _Parts:
    """The files that records go to, each opened when its first record comes."""

    def __init__(self, out: Path, solved_from: float, stack: ExitStack) -> None:
        self.out = out
        self.solved_from = solved_from
        self.counts: Counter[str] = Counter()
        self._stack = stack
        self._sinks: dict[str, Write] = {}
        self._tasks: dict[str, set[str]] = {part: set() for part in PARTS}

    def add(self, record: Trajectory | Pair, where: str) -> None:
        if isinstance(record, Pair):
            self._write("pairs", record)
        elif record.failed:
            self.counts["failed"] += 1  # the simulator or the engine, not the agent
        else:
            solved = record.reward >= self.solved_from if record.success is None else record.success
            self._write("successes" if solved else "failures", record)

    @property
    def tasks_with_both(self) -> int:
        """Tasks that were both solved and failed: what `eto pairs` can contrast."""
        return len(self._tasks["successes"] & self._tasks["failures"])

    def _write(self, part: str, record: Trajectory | Pair) -> None:
        kind = "pair" if isinstance(record, Pair) else "trajectory"
        name = part if is_directory(self.out) else kind
        if name not in self._sinks:
            if self._sinks and not is_directory(self.out):
                problem = "the files hold both trajectories and pairs"
                raise InputError(
                    problem, where=f"--out {shown(self.out, line=True)}", hint="give a directory"
                )
            path = self.out / f"{part}.jsonl" if is_directory(self.out) else self.out
            self._sinks[name] = self._stack.enter_context(open_sink(path, columns_of(kind, "own")))
        self._sinks[name](
            pair_to_record(record) if isinstance(record, Pair) else trajectory_to_record(record)
        )
        self.counts[part] += 1
        self._tasks[part].add(record.task.id)


def import_files(
    files: Sequence[Path],
    out: Path,
    source: str | None,
    reward: float | None,
    solved_from: float,
    overwrite: bool = False,
) -> None:
    """`eto import`"""
    places = _places(out)
    for path in files:
        for place in places:
            check_file(place, overwrite=overwrite, inputs=inputs_of(file=path), form=DATA)
    reader = ItemReader(source, by_success=True, reward=reward)
    with ExitStack() as stack:
        parts = _Parts(out, solved_from, stack)
        for path in files:
            for record in reader.stream(path):
                parts.add(record, str(path))
            reader.notes.tell(path)
            reader.notes.events.clear()
            reader.notes.ignored.clear()
        if not parts.counts.total() - parts.counts["failed"]:
            problem = f"all {parts.counts['failed']} episodes failed for the simulator or the engine"
            raise InputError(problem, where=str(files[0]), hint="give episodes that ended")
    for place in places:
        if is_directory(out) and not parts.counts[place.stem]:
            place.unlink(missing_ok=True)  # of an earlier import, which is replaced
    _report(parts, out)


def _places(out: Path) -> list[Path]:
    return [out / f"{part}.jsonl" for part in PARTS] if is_directory(out) else [out]


def _report(parts: _Parts, out: Path) -> None:
    for part in PARTS:
        if parts.counts[part]:
            place = out / f"{part}.jsonl" if is_directory(out) else out
            say(f"{parts.counts[part]} {part}: {place}")
    if parts.counts["failed"]:
        say(f"{counted(parts.counts['failed'], 'episode')} left out: simulator or engine failed")
    if parts.counts["successes"] and parts.counts["failures"]:
        say(f"{parts.tasks_with_both} tasks have both a success and a failure: `eto pairs` contrasts these")
