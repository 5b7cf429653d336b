"""Episodes as logs of Inspect, which `inspect view` opens and `inspect_ai.log` reads: one sample an episode.

A log is a zip archive of JSON: `header.json`, `summaries.json`, `samples/<id>_epoch_<n>.json`. This is
version 2 of the form; tests read it with `inspect_ai`, which is not needed to write it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from eto.data.atomic import atomic_file
from eto.data.inspect_samples import Played, sample_of, summary_of
from eto.data.oserrors import unwritable
from eto.data.texts import whole
from eto.errors import InputError

FORM = "inspect"
ENDING = ".eval"
SEVERAL = "several"
"""The model of a log whose episodes several agents played; each sample names its own."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def write_logs(played: Iterable[Played], out: Path, name: str) -> tuple[int, int]:
    """Write one log, or into a directory one for each phase (of episodes from files: for each agent).

    out: a name that ends in `.eval`, replaced as a whole; or a directory, of which files of the same names
    are replaced and others stay. name: what the logs call their task, beside the phase where they hold
    one. Returns how many episodes and how many logs were written. Raises `MissingRequirement` for a full
    disk, `InputError` where there is no episode and for a place that cannot be written.
    """
    if out.suffix == ENDING and not out.is_dir():
        counts = [_write(played, out, name)]
    else:
        taken = Counter[str]()
        counts = [
            _write(group, out / f"{_file_name(label, taken)}{ENDING}", name)
            for label, group in groupby(_in_order(played), key=_label)
        ]
    if not sum(counts):
        raise InputError("no trajectories to write: nothing matches", hint="change the filters")
    return sum(counts), len(counts)


@dataclass(slots=True)
class _Told:
    """What a log says of all its samples."""

    epochs: Counter[str] = field(default_factory=Counter)
    """Episodes by task."""
    agents: dict[str, None] = field(default_factory=dict)
    phases: dict[str, None] = field(default_factory=dict)
    environments: dict[str, None] = field(default_factory=dict)
    rewards: dict[str, list[float]] = field(default_factory=dict)
    successes: dict[str, list[float]] = field(default_factory=dict)
    """By phase, or by agent where there is no phase."""
    failed: int = 0

    def take(self, played: Played) -> int:
        """Count an episode; its number among those of its task."""
        episode, group = played.trajectory, _label(played)
        self.epochs[whole(episode.task.id)] += 1
        self.agents[whole(episode.source)] = self.environments[whole(episode.task.environment)] = None
        self.phases[whole(played.phase)] = None
        self.failed += episode.failed
        if not episode.failed:
            self.rewards.setdefault(group, []).append(episode.reward)
            if episode.success is not None:
                self.successes.setdefault(group, []).append(float(episode.success))
        return self.epochs[whole(episode.task.id)]


def _label(played: Played) -> str:
    return whole(played.phase or played.trajectory.source)


def _file_name(label: str, taken: Counter[str]) -> str:
    """A name for the log of `label` that no other one has."""
    name = _NOT_IN_NAMES.sub("-", label).lstrip(".") or "episodes"
    taken[name] += 1
    return name if taken[name] == 1 else _file_name(f"{name}-{taken[name]}", taken)


def _in_order(played: Iterable[Played]) -> Iterator[Played]:
    """A store's episodes as they come, which is by phase; a file's by agent, when all are read."""
    loose: list[Played] = []
    for each in played:
        if each.phase:
            yield each
        else:
            loose.append(each)
    yield from sorted(loose, key=_label)


def _write(played: Iterable[Played], path: Path, name: str) -> int:
    """Write a log, one sample at a time; how many there are. Without any, nothing is written."""
    episodes = iter(played)
    first = next(episodes, None)
    if first is None:
        return 0
    told, summaries = _Told(), list[dict[str, Any]]()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
            each: Played | None = first
            while each is not None:
                sample = sample_of(each, told.take(each))
                summaries.append(summary_of(sample))
                _add(archive, f"samples/{sample['id']}_epoch_{sample['epoch']}.json", sample)
                each = next(episodes, None)
            _add(archive, "summaries.json", summaries)
            _add(archive, "header.json", _header(told, len(summaries), whole(name), path.stem))
    except OSError as error:
        raise unwritable(path, error) from error
    return len(summaries)


def _add(archive: ZipFile, name: str, value: Any) -> None:
    # A fixed time: samples that are equal give equal bytes.
    entry = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = ZIP_DEFLATED
    archive.writestr(entry, json.dumps(value))


def _header(told: _Told, samples: int, name: str, stem: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    agents, phases = list(told.agents), list(told.phases)
    task = f"{name} {phases[0]}" if len(phases) == 1 and phases[0] else name
    # The viewer expects each of the ids in each epoch, and counts what is not there as missing.
    even = len(set(told.epochs.values())) == 1
    planned = {"samples": len(told.epochs), "sample_ids": list(told.epochs)} if even else {"samples": samples}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            **{f"{kind}_id": _identity(kind, name, stem, now) for kind in ("eval", "run", "task")},
            **{"created": now, "task": task, "task_version": 0, "task_attribs": {}, "task_args": {}},
            "dataset": {"name": ", ".join(told.environments), **planned},
            "model": agents[0] if len(agents) == 1 else SEVERAL,
            "model_args": {},
            "config": {"epochs": max(told.epochs.values())} if even else {},
            "packages": {"eto-agent": version("eto-agent")},
            "metadata": {"agents": agents, "phases": [phase for phase in phases if phase]},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": samples,
            "completed_samples": samples - told.failed,
            "scores": [
                {"name": score, "scorer": score, "params": {}, "metrics": _metrics(mean, values)}
                for score, mean, values in (
                    ("reward", "mean", told.rewards),
                    ("success", "accuracy", told.successes),
                )
                if values
            ],
        },
        # Without times the viewer shows a duration that is not a number.
        "stats": {"started_at": now, "completed_at": now, "model_usage": {}},
    }


def _metrics(mean: str, values: Mapping[str, list[float]]) -> dict[str, Any]:
    """Mean and its standard error; of several phases or agents the mean of each, for a mean over all would
    say nothing of any."""
    if len(values) > 1:
        figures = {group: fmean(each) for group, each in values.items()}
    else:
        [each] = values.values()
        figures = {mean: fmean(each), "stderr": stdev(each) / sqrt(len(each)) if len(each) > 1 else 0.0}
    return {name: {"name": name, "value": value, "params": {}} for name, value in figures.items()}


def _identity(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:22]
