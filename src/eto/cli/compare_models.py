"""`eto compare-models`: two models on the same tasks, paired task by task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eto.cli.compose import read_recipe
from eto.cli.export_model import given_model
from eto.cli.kept import Kept, command_of, facts_of
from eto.cli.outputs import check_file, inputs_of
from eto.cli.progress import Progress
from eto.cli.terminal import say, terminal
from eto.data.formats import write_trajectories
from eto.errors import InputError
from eto.evaluation import terminal as tables
from eto.evaluation.changes import GROUPS, changes
from eto.evaluation.results import compare
from eto.evaluation.statistics import summarise
from eto.evaluation.table import Cell, interval_cell, markdown_table
from eto.experiment.acting import Acting
from eto.experiment.compose import policy_of, suite_of, tasks_of
from eto.experiment.recipe import Recipe
from eto.types import Phase, Trajectory

AGENTS = ("A", "B")


def compare_models(
    first: str,
    second: str,
    split: str,
    out: Path | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """Play `split` with both models and print B minus A. Raises `InputError` for a model that is not there,
    and for the same one twice."""
    recipe = read_recipe(recipe_path, overrides, "compare-models", split=split, model=first)
    from eto.models.loading import find_model

    models = [given_model(each).model for each in (first, second)]
    if len({facts_of(model)["path"] for model in models}) < len(models):
        raise InputError("A and B are the same model", where="eto compare-models", hint="name two models")
    for model in models:
        find_model(model)
    if out:
        inputs = {f"the model {name}": Path(m) for name, m in zip(AGENTS, models, strict=True)}
        inputs = {name: path for name, path in inputs.items() if path.is_dir()}
        check_file(out, overwrite=overwrite, inputs=inputs | inputs_of(recipe=recipe_path))
    before, after = _played(models, split, out, recipe, overwrite)
    print_comparison((first, second), before, after, split, recipe)
    if out:
        say(f"episodes written: {out} (by their `source`: A and B)")


def print_comparison(
    named: tuple[str, str], before: list[Trajectory], after: list[Trajectory], split: str, recipe: Recipe
) -> None:
    """Print figures of A (`before`) and B (`after`), what B gained and lost, and the differences by type."""
    resamples = recipe.evaluation.bootstrap_resamples
    figures = [summarise(played, resamples=resamples).to_dict() for played in (before, after)]
    agents: dict[str, Any] = dict(zip(AGENTS, figures, strict=True))
    agents["B"]["difference"] = compare(after, before, resamples=resamples)
    nothing: dict[str, Any] = {"bounds": {}, "pairs": {}, "guard": {}, "shipped": None}
    title = f"A {named[0]}, B {named[1]}"
    results = {"recipe": title, "splits": {split: {"agents": agents}}, "baseline": "A", **nothing}
    terminal().print(tables(results, split))
    found = changes(before, after)
    counts = ", ".join(f"{group} {len(getattr(found, group))}" for group in GROUPS)
    say(f"B beside A: {counts}")
    kinds = sorted({t.task.kind for t in before} & {t.task.kind for t in after})
    if len(kinds) > 1:
        rows = [_kind_row(kind, before, after, resamples) for kind in kinds]
        say(markdown_table(["B minus A", "tasks", "reward", "success"], rows))


def _kind_row(
    kind: str, before: Sequence[Trajectory], after: Sequence[Trajectory], resamples: int
) -> list[Cell]:
    parts = [[t for t in played if t.task.kind == kind] for played in (after, before)]
    difference = compare(*parts, resamples=resamples)
    cells = [interval_cell(difference[name], 3, 3, sign="+") for name in ("reward", "success")]
    return [(kind,), (str(difference["reward"]["n"]),), *cells]


def _played(
    models: Sequence[str], split: str, out: Path | None, recipe: Recipe, overwrite: bool
) -> list[list[Trajectory]]:
    """The episodes of each model on the split's tasks, kept beside `out` until they are written there."""
    from eto.experiment.play import play

    suite = suite_of(recipe)
    tasks = tasks_of(recipe, suite, split)
    played = []
    with Progress() as progress, ExitStack() as stack:
        kept = None
        if out:
            command = command_of("compare-models", split, recipe, models[0], second=facts_of(models[1]))
            kept = stack.enter_context(Kept(out, command, overwrite=overwrite))
        acting = stack.enter_context(Acting(recipe, progress))
        for name, model in zip(AGENTS, models, strict=True):
            phase = Phase.evaluate(name, split)
            there = kept.store.get(phase) if kept else []
            if there:
                progress.say(f"resuming {name}: {len(there)} of {len(tasks)} are kept")
            if len(there) < len(tasks):
                progress.say(f"loading {name}: {model}")
                actor = acting.actor(policy_of(recipe, model), name)
                there = play(
                    actor,
                    suite,
                    tasks,
                    recipe,
                    progress=progress,
                    phase=phase,
                    temperature=recipe.evaluation.temperature,
                    store=kept.store if kept else None,
                )
                del actor  # and its weights, before the other's
            played.append(there)
        if kept and out:
            write_trajectories(out, [trajectory for each in played for trajectory in each])
            kept.finish()
    return played
