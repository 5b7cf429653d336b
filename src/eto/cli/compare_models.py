"""`eto compare-models`: two models on the same tasks, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eto.cli.compose import read_recipe
from eto.cli.export_model import given_model
from eto.cli.stages import play_split, playing_command
from eto.cli.tables import print_parts
from eto.cli.terminal import say
from eto.data.files import disk_errors, read_json, write_atomic, write_json
from eto.data.formats import read_trajectories, write_trajectories
from eto.errors import InputError, RunConflict
from eto.evaluation.changes import GROUPS, changes
from eto.evaluation.parts import Rows, parts_markdown
from eto.evaluation.report_text import summary_parts
from eto.evaluation.results import compare
from eto.evaluation.statistics import summarise
from eto.experiment.recipe import Recipe, recipe_diff
from eto.types import Trajectory


def compare_models(
    first: str, second: str, split: str, out: Path, recipe_path: Path | None, overrides: Sequence[str]
) -> None:
    """Play both models, or the agents that runs ship, on a split; print and write, in `out`, their figures
    and `second` minus `first`.

    Each one's episodes stand in a file of their own: killed, the same command resumes, and a model that has
    played is not played again. Raises `RunConflict` where `out` holds another comparison.
    """
    from eto.models.loading import find_model

    if first == second:
        raise InputError(f"{first} is compared with itself", where="MODEL", hint="name two models")
    models = {each: given_model(each).model for each in (first, second)}
    for model in models.values():  # before the other one has played for hours
        find_model(model)
    played = {
        model: _played(out / f"{side}.jsonl", models[model], split, recipe_path, overrides)
        for side, model in (("first", first), ("second", second))
    }
    recipe = read_recipe(recipe_path, overrides, "evaluate", split=split, model=first)
    figures = _figures(played, recipe)
    found = changes(played[first], played[second])
    counts = {group: len(getattr(found, group)) for group in GROUPS}
    header = [f"{second} beside {first}", *GROUPS]
    parts = [
        *summary_parts(figures, first, f"{split} tasks, mean and 95% interval"),
        Rows(header, [[("tasks",), *((str(count),) for count in counts.values())]]),
    ]
    with disk_errors(out):
        write_json(out / "comparison.json", {"split": split, "models": figures, "tasks": counts})
        write_atomic(out / "comparison.md", parts_markdown(parts))
    print_parts(parts)
    say(f"written: {out / 'comparison.md'}, {out / 'comparison.json'}; episodes beside them")


def _figures(played: Mapping[str, Sequence[Trajectory]], recipe: Recipe) -> dict[str, Any]:
    """Model -> its summary; the second's has the `difference` to the first's."""
    first, second = played
    draws = recipe.evaluation.bootstrap_resamples
    figures = {name: summarise(each, resamples=draws).to_dict() for name, each in played.items()}
    figures[second]["difference"] = compare(played[second], played[first], resamples=draws, seed=recipe.seed)
    return figures


def _played(
    file: Path, model: str, split: str, recipe_path: Path | None, overrides: Sequence[str]
) -> list[Trajectory]:
    """The model's episodes, from `file` where it has them."""
    recipe = read_recipe(recipe_path, overrides, "evaluate", split=split, model=model)
    command = playing_command("evaluate", recipe, split, model)
    noted = file.with_suffix(".command.json")
    if noted.exists():
        if changed := recipe_diff(read_json(noted), command):
            raise RunConflict(
                "another comparison is kept here\n  " + "\n  ".join(changed),
                where=str(noted),
                hint="take another --out, or the command that it was begun with",
            )
        if file.exists():
            say(f"{model}: {file} has its episodes")
            return read_trajectories(file)
    elif file.exists():
        hint = "take another --out, or move the file"
        raise RunConflict(
            "there is a file already, and no comparison was begun here", where=str(file), hint=hint
        )
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(noted, command)
    say(f"{model}:")
    temperature = recipe.evaluation.temperature
    return play_split(
        *("evaluate", file, recipe, split, model, temperature, 1),
        write=partial(write_trajectories, file),
    )
