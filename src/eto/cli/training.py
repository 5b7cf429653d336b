"""Training on files: `eto sft` and `eto dpo`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.cli.compose import read_recipe
from eto.cli.outputs import check_directory, inputs_of, new_model
from eto.cli.progress import Progress
from eto.data.formats import read_pairs, read_trajectories
from eto.errors import InputError
from eto.experiment.compose import policy_of, section, training_arguments
from eto.experiment.loading import check_for_training
from eto.experiment.recipe import Recipe
from eto.experiment.watch import show_start, show_step
from eto.settings import ContrastSettings, DpoSettings, GuardSettings, SftSettings
from eto.types import Trajectory


def clone(
    expert: Path,
    out: Path,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """`eto sft`"""
    recipe = read_recipe(recipe_path, overrides, "sft", model=model)
    trajectories = read_trajectories(expert, source="expert")
    inputs = inputs_of(expert=expert, model=model or recipe.model.path, recipe=recipe_path)
    check_directory(out, overwrite=overwrite, inputs=inputs)
    from eto.training.cloning import cloning

    progress = Progress()
    learner = policy_of(recipe, model)
    check_for_training(learner, out)
    with progress:
        fit = cloning(learner, trajectories, section(recipe, SftSettings), **training_arguments(recipe))
        show_start(progress, "sft", fit)
        for step in fit:
            show_step(progress, "sft", step)
    with new_model(out) as fresh:
        learner.save(fresh)
    progress.say(f"model written: {out}")


def optimise(
    pairs: Path,
    out: Path,
    rehearsal: Path | None,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """`eto dpo`"""
    recipe = read_recipe(recipe_path, overrides, "dpo", model=model)
    rehearsed = _rehearsed(rehearsal, recipe)
    given = read_pairs(pairs)
    inputs = inputs_of(pairs=pairs, model=model or recipe.model.path, recipe=recipe_path)
    check_directory(out, overwrite=overwrite, inputs=inputs)
    from eto.training.guard import exceeded
    from eto.training.preference import preference

    progress = Progress()
    learner, guard = policy_of(recipe, model), section(recipe, GuardSettings)
    check_for_training(learner, out)
    with progress:
        fit = preference(
            learner,
            given,
            section(recipe, DpoSettings),
            contrast=section(recipe, ContrastSettings),
            rehearsal=rehearsed,
            **training_arguments(recipe),
        )
        show_start(progress, "dpo", fit)
        for step in fit:
            show_step(progress, "dpo", step)
            if bound := exceeded(step.figures, guard):
                fit.stop(bound)
    with new_model(out) as fresh:
        learner.save(fresh)
    if fit.stopped:
        progress.say(f"stopped after {fit.step} steps: {fit.stopped}")
    progress.say(f"model written: {out}")


def _rehearsed(file: Path | None, recipe: Recipe) -> list[Trajectory] | None:
    """Trajectories to mix among the pairs. File and weight go together: one without the other does
    nothing."""
    weight = section(recipe, DpoSettings).rehearsal_weight
    if file is None and weight:
        raise InputError(
            f"method.dpo.rehearsal_weight is {weight:g}, but there is nothing to rehearse",
            where="eto dpo",
            hint="give --rehearsal FILE, for example the expert's, or method.dpo.rehearsal_weight=0",
        )
    if file is not None and not weight:
        hint = "set method.dpo.rehearsal_weight, for example to 1, or leave --rehearsal out"
        raise InputError("method.dpo.rehearsal_weight is 0", where="--rehearsal", hint=hint)
    return None if file is None else read_trajectories(file, source="expert")
