"""Training on files: `eto sft` and `eto dpo`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.cli.agents import note_training
from eto.cli.compose import read_recipe
from eto.cli.kept import KeptTraining, stopped_writing, training_of
from eto.cli.outputs import check_directory, inputs_of, new_model
from eto.cli.progress import Progress
from eto.data.formats import read_pairs, read_trajectories
from eto.data.texts import counted
from eto.errors import InputError
from eto.experiment.compose import policy_of, section, training_arguments
from eto.experiment.loading import check_for_training
from eto.experiment.recipe import Recipe
from eto.experiment.recipe_fields import learned_optimisers
from eto.experiment.watch import scoring, show_start, show_step
from eto.settings import ContrastSettings, DpoSettings, GuardSettings, SftSettings
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.training.learner import Learner
    from eto.training.loop import Fit


def clone(
    expert: Path,
    out: Path,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    name: str = "",
) -> None:
    """`eto sft`"""
    recipe = read_recipe(recipe_path, overrides, "sft", model=model)
    trajectories = read_trajectories(expert, source="expert")
    inputs = inputs_of(expert=expert, model=model or recipe.model.path, recipe=recipe_path)
    settings = section(recipe, SftSettings)
    command = training_of("sft", recipe, model, [settings], {"expert": expert})
    check_directory(out, overwrite=overwrite or stopped_writing(out, command), inputs=inputs)
    from eto.training.cloning import cloning

    with Progress() as progress, KeptTraining(out, command, overwrite=overwrite) as kept:
        learner = policy_of(recipe, model)
        _check(learner, out, recipe)
        arguments = training_arguments(recipe)
        fit = cloning(learner, trajectories, settings, directory=kept.directory, **arguments)
        _begin("sft", fit, kept, progress)
        for step in fit:
            kept.log("sft", step)
            show_step(progress, "sft", step)
        _save(learner, out, kept, command, name)
    progress.say(f"model written: {out}")


def optimise(
    pairs: Path,
    out: Path,
    rehearsal: Path | None,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    name: str = "",
) -> None:
    """`eto dpo`"""
    recipe = read_recipe(recipe_path, overrides, "dpo", model=model)
    rehearsed = _rehearsed(rehearsal, recipe)
    given = read_pairs(pairs)
    inputs = inputs_of(pairs=pairs, model=model or recipe.model.path, recipe=recipe_path)
    settings, guard = section(recipe, DpoSettings), section(recipe, GuardSettings)
    contrast = section(recipe, ContrastSettings)
    files = {"pairs": pairs, "rehearsal": rehearsal}
    command = training_of("dpo", recipe, model, [settings, contrast, guard], files)
    check_directory(out, overwrite=overwrite or stopped_writing(out, command), inputs=inputs)
    from eto.training.guard import exceeded
    from eto.training.preference import preference

    with Progress() as progress, KeptTraining(out, command, overwrite=overwrite) as kept:
        learner = policy_of(recipe, model)
        _check(learner, out, recipe)
        fit = preference(
            learner,
            given,
            settings,
            contrast=contrast,
            rehearsal=rehearsed,
            directory=kept.directory,
            progress=scoring(progress, "dpo"),
            **training_arguments(recipe),
        )
        _begin("dpo", fit, kept, progress)
        for step in fit:
            kept.log("dpo", step)
            show_step(progress, "dpo", step)
            if bound := exceeded(step.figures, guard):
                fit.stop(bound)
        _save(learner, out, kept, command, name)
    if fit.stopped:
        progress.say(f"stopped after {counted(fit.step, 'step')}: {fit.stopped}")
    progress.say(f"model written: {out}")


def _check(learner: Learner, out: Path, recipe: Recipe) -> None:
    learned = bool(learned_optimisers(recipe.method))
    check_for_training(learner, out, agents=1, learned=learned)


def _begin(stage: str, fit: Fit, kept: KeptTraining, progress: Progress) -> None:
    if fit.step:
        progress.say(f"resuming: {fit.step} of {fit.steps} steps are kept in {kept.directory}")
    show_start(progress, stage, fit)


def _save(learner: Learner, out: Path, kept: KeptTraining, command: Mapping[str, Any], name: str) -> None:
    """Write the model, and beside it the figures of its training and what decided it."""
    kept.write()
    with new_model(out) as fresh:
        learner.save(fresh)
        note_training(fresh, command, name)
        if kept.metrics.exists():
            shutil.copyfile(kept.metrics, fresh / kept.metrics.name)
    kept.finish()


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
