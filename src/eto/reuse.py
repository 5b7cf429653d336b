"""Finished stages of another run, taken into a new one whose recipe differs only in later fields.

    with Run.open(recipe.directory, recipe) as run:
        run.record_splits(splits)
        taken = reuse_stages(Path("runs/scienceworld"), run)  # ["expert", "sft", "dev-sft", "explore-1"]

Nothing in a finished stage is written in place, so its files are shared as hard links where the
file system has them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from eto.atomic import atomic_directory
from eto.errors import InputError, RunConflict
from eto.files import disk_errors, read_rows
from eto.recipe import Recipe, free_fields, recipe_diff, recorded
from eto.recipe_yaml import read_text
from eto.run import Run
from eto.run_records import read_done, read_manifest
from eto.store import TrajectoryStore

FIRST_STAGE = {
    "seed": "expert",
    "environment": "expert",
    "tasks.train_per_kind": "expert",
    "model": "sft",
    "method.sft": "sft",
    "tasks.explore_unseen": "sft",
    "tasks.dev_per_kind": "dev-sft",
    "evaluation.temperature": "dev-sft",
    "rollout": "dev-sft",
    "method.name": "sft",
    "method.explore": "explore-1",
    "method.contrast": "contrast-1",
    "method.dpo": "dpo-1",
    "method.guard": "dpo-1",
    "method.iterations": "test",
    "tasks.test_per_kind": "test",
    "evaluation.bootstrap_resamples": "test",
}
"""A recipe's field or section -> the first stage whose result it decides. Free fields decide none."""

_MADE_WITHOUT_DEV = ("expert", "sft")
_LEFT_OUT = {"DONE", "seconds", "state", "state.new", "state.old", "model.new"}
"""What serves a stage's own resumption; DONE comes last and on its own."""


def reuse_stages(source: Path, run: Run) -> list[str]:
    """Take from the run in `source` what `run` can go on from; returns the names of the stages that
    are now here and came from there, in their order.

    A stage brings its episodes, its rows of metrics.jsonl and its directory, and is then done. What
    is here already stays; a stage that the run began itself ends the taking, for the later ones
    would rest on another. `source` may still be under way. Call it after `Run.record_splits`.

    Raises what `reusable_stages` does, `RunConflict` where the two runs have other training tasks
    or the first stage is the run's own, `MissingRequirement` when the disk is full.
    """
    if source.exists() and source.samefile(run.directory):
        raise _same_run(source)
    stages = _on_equal_tasks(source, run, reusable_stages(source, run.recipe))
    taken: list[str] = []
    with TrajectoryStore(source / "trajectories.sqlite", create=False) as episodes:
        for stage in stages:
            if not run.stage_directory(stage).exists():
                _take(stage, source, episodes, run, earlier=taken)
            elif run.done(stage) != read_done(_done_file(source, stage)):
                break
            taken.append(stage)
    if not taken:
        raise RunConflict(
            f"the run has begun its stage {stages[0]!r} itself and cannot go on from another's",
            where=str(run.directory),
            mend="take another name or run_directory, or run without --from",
        )
    return taken


def reusable_stages(source: Path, recipe: Recipe) -> list[str]:
    """Names of the stages that a run of `recipe` can take from the run in `source`: the finished
    ones, without a gap, before the first that a differing field decides. `test` is never taken.

    Raises `InputError` where there is no run, no finished stage, or the recipe's own directory;
    `RunConflict` naming the fields where their difference leaves nothing to take.
    """
    if not all((source / name).is_file() for name in ("recipe.yaml", "manifest.json")):
        mend = "give the directory of a run: it holds recipe.yaml and manifest.json"
        raise InputError("there is no run here to take stages from", where=str(source), mend=mend)
    if source.resolve() == recipe.directory.resolve():
        raise _same_run(source)
    theirs = source / "recipe.yaml"
    changed = recipe_diff(recorded(read_text(theirs), source=str(theirs)), recipe)
    decided = {line: first_stage(line.split(":")[0], free_fields(recipe)) for line in changed}
    stages = _finished_before(set(decided.values()), source, getattr(recipe.method, "iterations", 0))
    if stages:
        return stages
    lines = [line for line, stage in decided.items() if stage == "expert"]
    if lines:
        raise RunConflict(
            "nothing can be taken from the run: fields differ that decide its first stage\n  "
            + "\n  ".join(lines),
            where=str(source / "recipe.yaml"),
            mend="give these fields the values of that run, or run without --from",
        )
    mend = "wait until its stage 'expert' is done, or run without --from"
    raise InputError("the run has no finished stage to take", where=str(source), mend=mend)


def first_stage(field: str, free: frozenset[str] = frozenset()) -> str | None:
    """The first stage whose result a recipe's field decides; None where it decides none.

    A field without a rule can only be in the recipe of another version: it decides all.
    """
    if field in free:
        return None
    parts = field.split(".")
    places = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((FIRST_STAGE[place] for place in places if place in FIRST_STAGE), "expert")


def _finished_before(barred: set[str | None], source: Path, iterations: int) -> list[str]:
    rounds = [f"{step}-{i}" for i in range(1, iterations + 1) for step in ("explore", "contrast", "dpo")]
    order = ["expert", "sft", "dev-sft", *rounds]
    finished = {stage for stage in order if _done_file(source, stage).exists()}
    # Without dev tasks there is no dev-sft, and no gap where it would be.
    dev = read_manifest(source)["splits"].get("dev", {"tasks": 0})
    passed = finished if dev["tasks"] else finished | {"dev-sft"}
    return [s for s in takewhile(lambda s: s in passed and s not in barred, order) if s in finished]


def _on_equal_tasks(source: Path, run: Run, stages: list[str]) -> list[str]:
    """Those of `stages` that were made on the tasks of `run`; tasks may differ between equal recipes
    where the environment has another version."""
    theirs, ours = read_manifest(source)["splits"], run.manifest["splits"]
    if theirs.get("train") != ours.get("train"):
        raise RunConflict(
            f"the two runs have other training tasks: {_split_text(theirs)} -> {_split_text(ours)}",
            where=f"{source / 'manifest.json'}: splits.train",
            mend="install the environment's version named there, or run without --from",
        )
    if theirs.get("dev") != ours.get("dev"):
        return [stage for stage in stages if stage in _MADE_WITHOUT_DEV]
    return stages


def _split_text(splits: dict[str, Any]) -> str:
    split = splits.get("train")
    return f"{split['tasks']} tasks {split['sha256'][:12]}" if split else "(absent)"


def _take(stage: str, source: Path, episodes: TrajectoryStore, run: Run, earlier: Sequence[str]) -> None:
    """Episodes and metrics first, neither of which is doubled by a second try; then the directory."""
    for phase in episodes.phases():
        if _played_in(stage, phase):
            run.store.copy(phase, episodes)
    for row in read_rows(source / "metrics.jsonl", "stage"):
        measured = row["stage"] == "dev" and _played_in(stage, f"evaluate/{row.get('agent')}/dev")
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


def _played_in(stage: str, phase: str) -> bool:
    """Whether the episodes of `phase` are played in `stage`."""
    kind, _, name = stage.partition("-")
    if kind == "dpo":
        return phase.startswith(f"evaluate/{stage}/")
    phases = {"expert": "expert", "explore": f"explore/{name}", "dev": f"evaluate/{name}/dev"}
    return phase == phases.get(kind)


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
    mend = "take another name or run_directory for the new run; without --from the run goes on by itself"
    return InputError("a run cannot take stages from itself", where=str(source), mend=mend)
