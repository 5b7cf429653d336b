"""Forks: a new run takes the finished stages of another, where their recipes differ in later fields only.

    with Run.open(recipe.directory, recipe) as run:
        run.record_splits(splits)
        taken = fork_stages(Path("runs/scienceworld"), run)  # ["expert", "sft", "dev-sft"]

Nothing in a finished stage is written in place, so its files are shared as hard links where the
file system has them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eto.data.atomic import atomic_directory
from eto.data.files import disk_errors, read_rows
from eto.data.store import TrajectoryStore
from eto.errors import InputError, RunConflict
from eto.experiment.recipe import RUN_FILE, Recipe, free_fields, recipe_diff, recorded
from eto.experiment.recipe_yaml import read_text
from eto.experiment.run import Run
from eto.experiment.run_records import read_done, read_manifest
from eto.methods import declared_stages, load_method
from eto.protocols import Stage
from eto.settings import MethodSettings
from eto.types import Phase

FIRST_STAGE = {
    "seed": "expert",
    "environment": "expert",
    "tasks.train_per_kind": "expert",
    "tasks.experts_per_kind": "expert",
    "model": "method",
    "method": "method",
    "train.weights": "method",
    "tasks.explore_unseen": "method",
    "tasks.dev_per_kind": "dev",
    "evaluation.temperature": "dev",
    "rollout": "episodes",
    "tasks.test_per_kind": "test",
    "evaluation.bootstrap_resamples": "test",
}
"""A recipe's field or section -> the first stage whose result it decides: `expert`, `test`, or of the
method's stages the first, the first that plays dev, or the first that plays episodes. What a setting of the
method decides, the method declares. Free fields decide none."""

_LEFT_OUT = {"DONE", "seconds", "state", "state.new", "state.old", "model.new"}
"""What serves a stage's own resumption; DONE comes last and on its own."""


def fork_stages(source: Path, run: Run) -> list[str]:
    """Make `run` a fork of the run in `source`: take what it can resume from. Returns the names of the stages
    that are now here and came from there, in their order.

    A stage brings its episodes, its rows of metrics.jsonl and its directory, and is then done. What
    is here already stays; a stage that the run began itself is where the fork ends, for the later
    ones would rest on another. `source` may still be under way. Call it after `Run.record_splits`.

    Raises what `forkable_stages` does, `RunConflict` where the two runs have other training tasks
    or the first stage is the run's own, `MissingRequirement` when the disk is full.
    """
    if source.exists() and source.samefile(run.directory):
        raise _same_run(source)
    stages = _on_equal_tasks(source, run, forkable_stages(source, run.recipe))
    taken: list[str] = []
    with TrajectoryStore(source / "trajectories.sqlite", read_only=True) as episodes:
        for stage in stages:
            if not run.stage_directory(stage).exists():
                _take(stage, source, episodes, run, earlier=taken)
            elif run.done(stage) != read_done(_done_file(source, stage)):
                break
            taken.append(stage)
    if not taken:
        raise RunConflict(
            f"the run has begun its stage {stages[0]!r} itself and cannot resume from another's",
            where=str(run.directory),
            hint="take another name or run_directory, or run without --from",
        )
    return taken


def forkable_stages(source: Path, recipe: Recipe) -> list[str]:
    """Names of the stages that a fork with `recipe` can take from the run in `source`: the finished
    ones, without a gap, before the first that a differing field decides. `test` is never taken.

    Raises `InputError` where there is no run, no finished stage, or the recipe's own directory;
    `RunConflict` naming the fields where their difference leaves nothing to take.
    """
    if not all((source / name).is_file() for name in (RUN_FILE, "manifest.json")):
        hint = "give the directory of a run: it holds recipe.yaml and manifest.json"
        raise InputError("there is no run here to take stages from", where=str(source), hint=hint)
    if source.resolve() == recipe.directory.resolve():
        raise _same_run(source)
    changed = changed_fields(source, recipe)
    decided = {line: first_stage(line.split(":")[0], recipe) for line in changed}
    parting = _parting(source, recipe)
    if parting is not None:
        decided = {line: stage for line, stage in decided.items() if not line.startswith("method.")}
        decided["method"] = parting.stage
    stages = _finished_before(set(decided.values()), source, recipe)
    if stages:
        return stages
    lines = [line for line, stage in decided.items() if stage == "expert"]
    if lines:
        raise RunConflict(
            "nothing can be taken from the run: fields differ that decide its first stage\n  "
            + "\n  ".join(lines),
            where=str(source / RUN_FILE),
            hint="give these fields the values of that run, or run without --from",
        )
    hint = "wait until its stage 'expert' is done, or run without --from"
    raise InputError("the run has no finished stage to take", where=str(source), hint=hint)


def changed_fields(source: Path, recipe: Recipe) -> list[str]:
    """Lines `field: theirs -> ours` of the fields in which the run in `source` and a recipe differ."""
    return recipe_diff(_recorded(source), recipe)


def _recorded(source: Path) -> Mapping[str, Any]:
    path = source / RUN_FILE
    return recorded(read_text(path), source=str(path))


@dataclass(frozen=True, slots=True)
class _Parting:
    """Where the stages of two methods, or of two settings of one, part."""

    stage: str | None
    """The first of ours that the other run did not have as it is; None where it had all."""


def _parting(source: Path, recipe: Recipe) -> _Parting | None:
    """Where the recipe's method and that of the run in `source` part: at the first stage that is declared
    otherwise, that a differing setting decides, or, between two methods, that is not common to all.

    A differing setting that neither declares may decide anything. None where the other method is not
    installed, or had other settings when it ran: then `first_stage` judges field by field.
    """
    ours, old = recipe.method, _recorded(source).get("method")
    if not isinstance(old, Mapping):
        return None
    try:
        theirs = load_method(str(old.get("name"))).settings.model_validate(dict(old))
    except (ValidationError, InputError):
        return None
    across = ours.name != theirs.name
    lines = recipe_diff({"method": theirs.model_dump(mode="json")}, {"method": ours.model_dump(mode="json")})
    free = {f.removeprefix("method.") for f in free_fields(recipe)} | {"name"}
    differing = [f for f in (line.split(":")[0].removeprefix("method.") for line in lines) if f not in free]
    open_to_all = any(_undeclared(field, settings) for field in differing for settings in (ours, theirs))
    for stage, before in zip_longest(declared_stages(ours), declared_stages(theirs)):
        if stage is None:
            break
        decides = open_to_all or any(_within(field, stage.settings) for field in differing)
        if stage != before or decides or (across and not stage.common):
            return _Parting(stage.name)
    return _Parting(None)


def _undeclared(field: str, settings: MethodSettings) -> bool:
    """Whether the method has the field and does not say what it decides."""
    declared = {name for stage in declared_stages(settings) for name in stage.settings}
    declared |= {*load_method(settings.name).extent, *settings.without_effect()}
    return field.split(".")[0] in type(settings).model_fields and not _within(field, declared)


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages of a run of `recipe`, in their order, except for the test."""
    return [Stage("expert", phases=(Phase.expert(),)), *declared_stages(recipe.method)]


def first_stage(field: str, recipe: Recipe) -> str | None:
    """The first stage of a run of `recipe` whose result a field decides; None where it decides none.

    A field without a rule can only be in the recipe of another version, or of another method: it decides
    all, or all stages of the method.
    """
    if field in free_fields(recipe):
        return None
    stages = stages_of(recipe)[1:]
    if field.startswith("method."):
        setting = field.removeprefix("method.")
        idle = (*load_method(recipe.method.name).extent, *recipe.method.without_effect())
        for stage in stages:
            if _within(setting, stage.settings):
                return stage.name
        if _within(setting, idle):
            return "test"
    parts = field.split(".")
    places = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    rule = next((FIRST_STAGE[place] for place in places if place in FIRST_STAGE), "expert")
    if rule in ("expert", "test"):
        return rule
    meant = {
        "method": stages,
        "dev": [stage for stage in stages if stage.plays_dev],
        "episodes": [stage for stage in stages if stage.phases],
    }[rule]
    return meant[0].name if meant else "test"


def _within(setting: str, named: Iterable[str]) -> bool:
    return any(setting == name or setting.startswith(f"{name}.") for name in named)


def _finished_before(barred: set[str | None], source: Path, recipe: Recipe) -> list[str]:
    stages = stages_of(recipe)
    finished = {stage.name for stage in stages if _done_file(source, stage.name).exists()}
    # Without dev tasks there is no stage that only plays them, and no gap where it would be.
    dev = read_manifest(source)["splits"].get("dev", {"tasks": 0})
    absent = set() if dev["tasks"] else {s.name for s in stages if s.plays_dev and not s.agent}
    order = [stage.name for stage in stages]
    passed = takewhile(lambda s: s in finished | absent and s not in barred, order)
    return [stage for stage in passed if stage in finished]


def _on_equal_tasks(source: Path, run: Run, stages: list[str]) -> list[str]:
    """Those of `stages` that were made on the tasks of `run`; tasks may differ between equal recipes
    where the environment has another version."""
    theirs, ours = read_manifest(source)["splits"], run.manifest["splits"]
    if theirs.get("train") != ours.get("train"):
        raise RunConflict(
            f"the two runs have other training tasks: {_split_text(theirs)} -> {_split_text(ours)}",
            where=f"{source / 'manifest.json'}: splits.train",
            hint="install the environment's version named there, or run without --from",
        )
    if theirs.get("dev") != ours.get("dev"):
        dev = {stage.name for stage in stages_of(run.recipe) if stage.plays_dev}
        return list(takewhile(lambda stage: stage not in dev, stages))
    return stages


def _split_text(splits: dict[str, Any]) -> str:
    split = splits.get("train")
    return f"{split['tasks']} tasks {split['sha256'][:12]}" if split else "(absent)"


def _take(stage: str, source: Path, episodes: TrajectoryStore, run: Run, earlier: Sequence[str]) -> None:
    """Episodes and metrics first, neither of which is doubled by a second try; then the directory."""
    [declared] = (each for each in stages_of(run.recipe) if each.name == stage)
    for phase in episodes.phases():
        if declared.plays(phase):
            run.store.copy(phase, episodes)
    for row in read_rows(source / "metrics.jsonl", "stage"):
        measured = row["stage"] == "dev" and declared.plays(Phase.evaluate(str(row.get("agent")), "dev"))
        if measured or row["stage"] == stage:
            run.log(**row)
    # Not made below stages/, where a DONE on its way would pass for a finished stage.
    place = run.stage_directory(stage)
    with disk_errors(run.directory), atomic_directory(place, within=run.directory) as fresh:
        _link_tree(_done_file(source, stage).parent, fresh)
        _link(_done_file(source, stage), fresh / "DONE")
        versions = ({"versions": r["versions"]} for r in (read_manifest(source), run.manifest))
        origin = {"directory": str(source), "stages": [*earlier, stage], "changed": recipe_diff(*versions)}
        run.add_to_manifest(taken_from=origin)


def _link_tree(source: Path, target: Path) -> None:
    """`source` as a directory `target` that shares its files; temporary ones are left out."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.name in _LEFT_OUT or path.name.startswith("."):
            continue
        copy = _link_tree if path.is_dir() else _link
        copy(path, target / path.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _done_file(directory: Path, stage: str) -> Path:
    return directory / "stages" / stage / "DONE"


def _same_run(source: Path) -> InputError:
    hint = "take another name or run_directory for the new run; without --from the run resumes by itself"
    return InputError("a run cannot take stages from itself", where=str(source), hint=hint)
