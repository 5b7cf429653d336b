"""`eto export`: episodes, experts and pairs of a run, or of a file, for other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from eto.cli.outputs import DATA, LOG, check_file
from eto.cli.terminal import say
from eto.data.exports import PLURAL, TABLE, Kind, export, left_behind, maker_of
from eto.data.inspect_log import ENDING, write_logs
from eto.data.inspect_log import FORM as INSPECT
from eto.data.inspect_samples import Played
from eto.data.items import ItemReader
from eto.data.notes import Notes
from eto.data.sinks import is_directory
from eto.data.stored import stored_phases, stream_phases
from eto.data.texts import counted, shown
from eto.errors import InputError
from eto.types import Pair, Trajectory

STORE = "trajectories.sqlite"
Records = Iterator[tuple[str, Trajectory | Pair]]
"""Records, each with the phase of its run; "" where it comes from a file."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are taken. Patterns are those of file names."""

    phase: str = ""
    task: str = ""
    outcome: str = ""
    least: float | None = None
    most: float | None = None

    def takes(self, record: Trajectory | Pair) -> bool:
        if self.task and not fnmatchcase(record.task.id, self.task):
            return False
        if isinstance(record, Pair):
            return True
        if self.outcome and record.outcome != self.outcome:
            return False
        return (self.least is None or record.reward >= self.least) and (
            self.most is None or record.reward <= self.most
        )

    def check(self, kind: Kind) -> None:
        """Raises `InputError` for a word that is none, and for what pairs do not have."""
        if self.outcome not in ("", "won", "lost"):
            raise InputError(
                f"unknown outcome {self.outcome!r}", where="--outcome", hint="use one of won, lost"
            )
        if kind == "pair" and (self.outcome or self.least is not None or self.most is not None):
            problem = "pairs have no single outcome or reward"
            raise InputError(problem, where="eto export", hint="filter pairs by --task and --phase alone")


@dataclass(frozen=True, slots=True)
class Hub:
    """Whether a folder for a model hub is written, and where it goes."""

    card: bool = False
    push: str = ""
    licence: str = ""


def export_records(
    source: Path, out: Path, form: str, what: str, wanted: Filter, hub: Hub, overwrite: bool = False
) -> None:
    """`eto export`"""
    if hub.licence and not (hub.card or hub.push):
        hint = "add --card or --push, or leave it out"
        raise InputError("there is no card to name it on", where="--license", hint=hint)
    if hub.push:
        from eto.cli.hub import check_push

        check_push(hub.push)
    notes = Notes()
    kind, records = open_source(source, what, wanted, notes)
    wanted.check(kind)
    if form == INSPECT and kind == "trajectory":
        _check_logs(out, source, hub, overwrite=overwrite)
        kept = ((phase, each) for phase, each in records if isinstance(each, Trajectory))
        played = (Played(each, phase) for phase, each in kept if wanted.takes(each))
        written, logs = write_logs(played, out, source.resolve().name.split(".")[0])
        many = f", in {logs} logs" if logs > 1 else ""
        trajectories = counted(written, "trajectory", "trajectories")
        _tell(source, notes, kind, form, f"{trajectories} written{many}: {out}")
        return
    maker_of(kind, form)
    check_place(out, source, overwrite=overwrite)
    taken = (record for _, record in records if wanted.takes(record))
    if hub.card or hub.push:
        from eto.cli.hub import push, write_folder

        if not is_directory(out):
            problem = "a folder is written for the Hub, and this is the name of a file"
            raise InputError(problem, where=f"--out {shown(out, line=True)}", hint="give a directory")
        written = write_folder(taken, kind, form, out, notes, source=source, licence=hub.licence or "unknown")
    else:
        written = export(taken, kind, form, out, notes)
    _tell(source, notes, kind, form, f"{written} {PLURAL[kind]} written: {out}")
    if hub.push:
        push(out, hub.push)
        say(f"pushed, private: {hub.push}")


def _tell(source: Path, notes: Notes, kind: Kind, form: str, written: str) -> None:
    notes.tell(source)
    if behind := left_behind(kind, form):
        say(behind)
    say(written)


def _check_logs(out: Path, source: Path, hub: Hub, *, overwrite: bool) -> None:
    """Refuse what is no place for logs. In a directory, logs of other programs stay."""
    where = f"--out {shown(out, line=True)}"
    if hub.card or hub.push:
        problem = "a log of Inspect is no data set"
        raise InputError(problem, where="--card, --push", hint="leave these out, or take another --format")
    if out.suffix == ENDING and not out.is_dir():
        check_file(out, overwrite=overwrite, inputs={"the source": source}, form=LOG)
        return
    if out.suffix and not out.is_dir():
        problem = f"the name promises {out.suffix}, but a log of Inspect is written"
        hint = f"let it end in {ENDING}; without an ending it is a directory, with a log for each phase"
        raise InputError(problem, where=where, hint=hint)
    if out.exists() and not out.is_dir():
        raise InputError("this is a file already", where=str(out), hint="give --out a new directory")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        hint = "give --out a new directory, or --overwrite to replace the logs of the same names"
        raise InputError("there is something here already", where=str(out), hint=hint)


def check_place(out: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse a place that something else is at."""
    inputs = {"the source": source}
    if not is_directory(out):
        check_file(out, overwrite=overwrite, inputs=inputs, form=DATA)
        return
    whole, read = out.resolve(), source.resolve()
    if whole == read or whole in read.parents or read in whole.parents or whole == Path.cwd():
        problem = "this is the working directory, or the source, or one lies in the other"
        raise InputError(problem, where=f"--out {shown(out, line=True)}", hint="give --out another place")
    if out.is_dir() and any(out.iterdir()):
        if not any((out / name).is_file() for name in ("state.json", TABLE)):
            problem = "the directory holds other files and no data set"
            raise InputError(
                problem, where=str(out), hint="give --out a new directory, or the name of a file"
            )
        if not overwrite:
            hint = "give --out another name, or --overwrite to replace it"
            raise InputError("there is something here already", where=str(out), hint=hint)
    elif out.exists() and not out.is_dir():
        raise InputError("this is a file already", where=str(out), hint="give --out a new directory")


def open_source(source: Path, what: str, wanted: Filter, notes: Notes) -> tuple[Kind, Records]:
    """The kind and the records of a run, or of a file. Raises `InputError` where there are none."""
    if what not in ("", "episodes", "experts", "pairs"):
        hint = "use one of episodes, experts, pairs"
        raise InputError(f"unknown records {what!r}", where="--what", hint=hint)
    if not (source / STORE).is_file() and not (source / "stages").is_dir():
        if wanted.phase:
            hint = "leave it out, or export from the directory of a run"
            raise InputError("records of a file have no phase", where="--phase", hint=hint)
        return _of_files([source], what, notes)
    if what == "pairs":
        found = _named(sorted(source.glob("stages/*/pairs.jsonl")), wanted.phase)
        return _of_files(_some(found, source, "no stage has made pairs"), what, notes)
    if what == "experts":
        found = _named([source / "stages" / "expert" / "expert.jsonl"], wanted.phase)
        found = [path for path in found if path.is_file()]
        return _of_files(_some(found, source, "no expert trajectories were collected"), what, notes)
    phases = stored_phases(source / STORE)
    chosen = [phase for phase in phases if fnmatchcase(phase, wanted.phase or "*")]
    if not chosen:
        known = f"phases: {', '.join(phases)}" if phases else "nothing was played yet"
        place = f"--phase {shown(wanted.phase, line=True)}" if wanted.phase else str(source)
        raise InputError("no episode of such a phase", where=place, hint=known)
    return "trajectory", stream_phases(source / STORE, chosen, notes)


def _named(paths: list[Path], pattern: str) -> list[Path]:
    return [path for path in paths if fnmatchcase(path.parent.name, pattern or "*")]


def _some(paths: list[Path], source: Path, problem: str) -> list[Path]:
    if not any(path.stat().st_size for path in paths):
        raise InputError(problem, where=str(source), hint="export other records, or of another phase")
    return [path for path in paths if path.stat().st_size]


def _of_files(paths: list[Path], what: str, notes: Notes) -> tuple[Kind, Records]:
    reader = ItemReader(notes=notes, by_success=True)
    records: Iterator[Trajectory | Pair] = chain.from_iterable(map(reader.stream, paths))
    first = next(records)
    kind: Kind = "pair" if isinstance(first, Pair) else "trajectory"
    if what and (what == "pairs") != (kind == "pair"):
        hint = "leave --what out, or give another file"
        raise InputError(f"the file holds {PLURAL[kind]}", where=str(paths[0]), hint=hint)
    return kind, _of_one_kind(chain([first], records), kind, paths[0])


def _of_one_kind(records: Iterable[Trajectory | Pair], kind: Kind, path: Path) -> Records:
    for record in records:
        if isinstance(record, Pair) != (kind == "pair"):
            problem = "the file holds both trajectories and pairs"
            raise InputError(problem, where=str(path), hint="take it apart: eto import FILE --out DIRECTORY")
        yield "", record
