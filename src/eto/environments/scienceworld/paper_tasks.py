"""ScienceWorld as the ETO paper played it: 24 task types, by the index files of its code.

The files are not part of this project; `eval_agent/data/sciworld` of the authors' repository has them.
A fifth to a third of their training variations lie in the simulator's official dev split.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any, Literal

from eto.environments.scienceworld.kinds import KINDS
from eto.environments.scienceworld.suite import ScienceWorld
from eto.environments.toolkit.options import check_types
from eto.environments.toolkit.prompts import Length, Style
from eto.environments.toolkit.suite import options_of
from eto.errors import InputError
from eto.types import Task

_NUMBER = re.compile(r"^task-\d+[a-z]?-")
SPLITS = ("train", "dev", "test")


class ScienceWorldEto(ScienceWorld):
    """Task suite over the variations that the paper trained and tested on.

    indices: directory with `train_indices.json`, `dev_indices.json` and `test_indices.json`, also with
        a prefix; each a list of [task name, variation], names in the simulator's old numbered form.
    Everything else as in the paper's code: simplification "easy", its turn caps, reward the best score
    so far, experts the simulator's solutions; without `open door`, for those of the paper teleport, and
    these would not fit into its caps. Other options as for `scienceworld`.

    overlap: "keep" evaluation tasks that are training tasks too, as the paper did, or "drop" them.

    Its dev split is the paper's seen, its test split the unseen set. Warns with the number of tasks that
    two splits share, and of those that lie in another official split. Raises `InputError` for a missing
    or broken file, or a task that does not exist.
    """

    name = "scienceworld-eto"

    def __init__(
        self,
        indices: str | Path,
        overlap: Literal["keep", "drop"] = "keep",
        observation_limit: int = 0,
        look_first: bool = False,
        drop_open_door: bool = True,
        style: Style = "act",
        prompt: Length = "short",
        heap_mb: int = 512,
        recycle_after: int = 1000,
    ) -> None:
        self._own_options = options_of(locals())
        check_types(ScienceWorldEto, self._own_options, self.name)
        self._own_options["indices"] = indices = str(indices)
        self._chosen = _read_all(Path(indices).expanduser())
        self._settle_overlap(indices, drop=overlap == "drop")
        kinds = {kind for pairs in self._chosen.values() for kind, _ in pairs}
        others = {
            name: value for name, value in self._own_options.items() if name not in ("indices", "overlap")
        }
        super().__init__(kinds=[kind for kind in KINDS if kind in kinds], **others)
        self._warn_of_official_splits(indices)

    def tasks(self, split: str) -> list[Task]:
        """The variations of a split in the order of its file, one listed twice once."""
        super().tasks(split)  # an unknown split
        return [self._task(kind, split, variation) for kind, variation in self._chosen[split]]

    def max_turns(self, task: Task) -> int:
        return KINDS[task.kind][3]

    def spec(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}:ScienceWorldEto", dict(self._own_options)

    def _settle_overlap(self, indices: str, drop: bool) -> None:
        trained = set(self._chosen["train"])
        for split in ("dev", "test"):
            if shared := [pair for pair in self._chosen[split] if pair in trained]:
                treatment = "left out" if drop else "kept, as in the paper; overlap=drop leaves them out"
                message = f"{len(shared)} of {len(self._chosen[split])} {split} tasks are training tasks too"
                warnings.warn(f"{indices}: {message} ({treatment})", stacklevel=3)
            if drop:
                self._chosen[split] = [pair for pair in self._chosen[split] if pair not in trained]

    def _warn_of_official_splits(self, indices: str) -> None:
        for split, official, first in (("train", "dev", 0), ("train", "test", 1), ("dev", "test", 1)):
            inside = 0
            for kind, variation in self._chosen[split]:
                start = KINDS[kind][0] + first * KINDS[kind][1]
                inside += start <= variation < start + KINDS[kind][1 + first]
            if inside:
                share = 100 * inside / len(self._chosen[split])
                warnings.warn(
                    f"{indices}: {inside} {split} tasks ({share:.0f}%) lie in the official {official} split",
                    stacklevel=3,
                )


def current_name(name: str) -> str:
    """A task's name today, of its old one: `task-1-boil` -> `boil`."""
    plain = _NUMBER.sub("", name).replace("(", "").replace(")", "")
    return plain.replace("mendellian", "mendelian")


def _read_all(directory: Path) -> dict[str, list[tuple[str, int]]]:
    chosen: dict[str, list[tuple[str, int]]] = {}
    for split in SPLITS:
        path = next(iter(sorted(directory.glob(f"*{split}_indices.json"))), None)
        if path is None:
            raise InputError(
                f"no {split}_indices.json",
                where=str(directory),
                hint="take the files from eval_agent/data/sciworld of the ETO authors' repository",
            )
        chosen[split] = list(dict.fromkeys(_read(path)))
    return chosen


def _read(path: Path) -> list[tuple[str, int]]:
    try:
        indices = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(current_name(name), int(variation)) for name, variation in indices]
    except (OSError, ValueError, TypeError) as error:
        hint = "a JSON list of [task name, variation]"
        raise InputError(f"cannot be read: {error}", where=str(path), hint=hint) from error
    for number, (kind, variation) in enumerate(pairs):
        if kind not in KINDS:
            problem = f"item {number}: unknown task {indices[number][0]!r}"
            raise InputError(problem, where=str(path), hint=f"known ones: {', '.join(KINDS)}")
        if not 0 <= variation < sum(KINDS[kind][:3]):
            problem = f"item {number}: {kind} has no variation {variation}"
            raise InputError(problem, where=str(path), hint=f"0 to {sum(KINDS[kind][:3]) - 1}")
    return pairs
