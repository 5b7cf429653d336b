"""`eto compare`: methods under one budget, with the controls that decide what each is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.cli.compose import read_recipe
from eto.cli.progress import Progress
from eto.cli.run import first_and_shipped, what_changed
from eto.cli.tables import print_parts
from eto.cli.terminal import say
from eto.data.files import disk_errors
from eto.errors import InputError, RunConflict
from eto.evaluation import build_results
from eto.evaluation.comparison_files import (
    NAMES,
    Compared,
    Tables,
    comparison_tables,
    join,
    read_comparison,
    write_comparison,
)
from eto.evaluation.outcomes import outcome_of
from eto.evaluation.pooled import last_episodes
from eto.experiment.recipe import Recipe, flat, free_fields, recipe_of_run

if TYPE_CHECKING:
    from eto.experiment.comparison import Entry


def compare_recipes(
    paths: Sequence[Path],
    overrides: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    methods: str | None = None,
    controls: str | None = None,
) -> None:
    """Run the recipes, or one recipe with `methods`, with `seeds` in `out`, beside all controls or those that
    `controls` names. Write the tables and the figure after each recipe and seed, and print the tables at the
    end, before they are written once more: finished runs can be compared where nothing may be written."""
    from eto.experiment.comparison import CONTROLS, compare

    beside = None if controls is None else _names(controls, "--controls", f"controls: {', '.join(CONTROLS)}")
    with Progress() as progress:
        recipes = _recipes(paths, overrides, methods, progress)

        def write(entries: Mapping[str, Entry]) -> None:
            write_comparison(_tables(entries, len(seeds), out), out)

        entries = compare(recipes, seeds, out, progress, after_each=write, controls=beside)
        tables = _tables(entries, len(seeds), out)
        progress.close()
        print_parts(tables.parts, progress.console)
        write_comparison(tables, out)
        _say_written(out, progress.say)
        _say_what_next(entries, out, progress.say)


def chosen_seeds(count: int, only: Sequence[int]) -> list[int]:
    """Seeds 0 to `count` - 1, or `only` these. Raises `InputError` for a negative one."""
    if any(seed < 0 for seed in only):
        raise InputError(f"there is no seed {min(only)}", where="--seed", hint="give a number from 0")
    return sorted(set(only)) or list(range(count))


def _recipes(
    paths: Sequence[Path], overrides: Sequence[str], methods: str | None, progress: Progress
) -> list[Recipe]:
    recipes = [read_recipe(path, overrides, "run") for path in paths]
    if methods is None:
        return recipes
    if len(recipes) > 1:
        hint = "name one, or leave --methods out"
        raise InputError(f"--methods takes one recipe, here are {len(recipes)}", where="--methods", hint=hint)
    from eto.experiment.variants import with_methods

    names = _names(methods, "--methods", "for example --methods sft,rft,eto")
    recipes, unable = with_methods(recipes[0], names)
    for name, why in unable.items():
        progress.say(f"left out: {name}: {why}")
    return recipes


def _names(given: str, option: str, hint: str) -> list[str]:
    """The names that a comma parts. Raises `InputError` for none."""
    names = [name for name in (part.strip() for part in given.split(",")) if name]
    if not names:
        raise InputError("nothing is named", where=option, hint=hint)
    return names


def join_comparisons(paths: Sequence[Path], out: Path) -> None:
    """Write the tables and the figure of several comparisons as those of one, and print the tables."""
    comparisons = {str(path): read_comparison(path) for path in paths}
    if out.is_dir() and any(path.is_dir() for path in out.iterdir()):
        hint = "take a directory without runs as --out"
        raise RunConflict("the directory holds more than a comparison's tables", where=str(out), hint=hint)
    parts = join(comparisons)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    tables = comparison_tables(parts, max(len(part.shipped) for part in parts))
    write_comparison(tables, out)
    print_parts(tables.parts)
    _say_written(out, say)


def _say_what_next(entries: Mapping[str, Entry], out: Path, say: Callable[[str], None]) -> None:
    """What to look at: all runs, and what the first recipe's run gained on the agent that it began with."""
    run = next(entry.directories[0] for entry in entries.values() if not entry.control)
    first, shipped = first_and_shipped(build_results(run))
    say("what next:")
    say(f"  eto view {out}   # in the browser")
    if shipped != first:
        say(f"  eto show {run} --gained   # {what_changed(run, first, shipped)}")


def _say_written(out: Path, say: Callable[[str], None]) -> None:
    say("written: " + ", ".join(str(out / name) for name in NAMES))


def _tables(entries: Mapping[str, Entry], seeds: int, out: Path) -> Tables:
    """Of what there is so far."""
    return comparison_tables([_part(entry, out) for entry in entries.values()], seeds)


def _part(entry: Entry, out: Path) -> Compared:
    runs = entry.directories
    shipped = [outcome_of(run, out) for run in runs]
    others = [outcome_of(run, out, episodes_of=last_episodes) for run in runs]
    return Compared(
        label=entry.label,
        of=entry.of,
        control=entry.control,
        own_clone=entry.own_clone,
        recipe={} if entry.control or not runs else _deciding(recipe_of_run(runs[0])),
        shipped=tuple(shipped),
        others=tuple(last for last, one in zip(others, shipped, strict=True) if last != one),
    )


def _deciding(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide what a run of any seed comes to; of paths the last part, for they lie
    elsewhere on another machine."""
    elsewhere = {*free_fields(recipe), "seed", "run_directory"}
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in flat(recipe).items()
        if name not in elsewhere
    }
