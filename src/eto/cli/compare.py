"""`eto compare`: methods under one budget, with the controls that decide what each is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eto.cli.compose import read_recipe
from eto.cli.progress import Progress
from eto.cli.tables import print_parts
from eto.data.files import disk_errors, write_atomic, write_json
from eto.errors import InputError
from eto.evaluation.compared import compared
from eto.evaluation.compared_figure import draw_comparison
from eto.evaluation.compared_text import compared_parts
from eto.evaluation.parts import Part, parts_markdown
from eto.evaluation.pooled import last_episodes
from eto.experiment.recipe import Recipe

if TYPE_CHECKING:
    from eto.experiment.comparison import Entry


_LAST = "The last agents that each method made, whether or not dev chose them,"


def compare_recipes(
    paths: Sequence[Path], overrides: Sequence[str], seeds: int, out: Path, methods: str | None = None
) -> None:
    """Run the recipes, or one recipe with `methods`, with seeds 0 to `seeds` - 1 in `out`; write the tables
    and the figure after each recipe and seed, and print the tables at the end."""
    from eto.experiment.comparison import compare

    with Progress() as progress:
        recipes = _recipes(paths, overrides, methods, progress)

        def write(entries: Mapping[str, Entry]) -> None:
            _write(entries, seeds, out)

        parts = _write(compare(recipes, range(seeds), out, progress, after_each=write), seeds, out)
        progress.close()
        print_parts(parts, progress.console)
        progress.say(f"written: {out / 'comparison.md'}, {out / 'comparison.json'}, {out / 'comparison.png'}")


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

    names = [name for name in (part.strip() for part in methods.split(",")) if name]
    if not names:
        hint = "for example --methods sft,rft,eto"
        raise InputError("no method is named", where="--methods", hint=hint)
    recipes, unable = with_methods(recipes[0], names)
    for name, why in unable.items():
        progress.say(f"left out: {name}: {why}")
    return recipes


def _write(entries: Mapping[str, Entry], seeds: int, out: Path) -> list[Part]:
    """Write what there is so far; returns the tables."""
    recipes = [entry for entry in entries.values() if not entry.control]
    ordered = [
        entry
        for recipe in recipes
        for entry in (recipe, *(e for e in entries.values() if e.control and e.of == recipe.label))
    ]
    runs = {entry.label: entry.directories for entry in ordered}
    controls = {
        recipe.label: {e.control: e.label for e in ordered if e.control and e.of == recipe.label}
        for recipe in recipes
    }
    table = compared(runs, controls)
    notes = [f"{e.label}: the recipe's own clone, not trained again" for e in ordered if e.own_clone]
    notes += [f"{e.label}: no seed is finished yet" for e in recipes if not e.directories]
    last = compared(runs, controls, episodes_of=last_episodes)
    parts = compared_parts(table, seeds=seeds, notes=notes)
    if any(row["agents"] != last[label]["agents"] for label, row in table.items()):
        parts += compared_parts(last, seeds=seeds, agents=_LAST)
    for label, row in table.items():
        row["last"] = {key: last[label][key] for key in ("agents", "figures", "differences")}
    with disk_errors(out):
        write_json(out / "comparison.json", table)
        draw_comparison(table, out / "comparison.png")
        text = parts_markdown([*parts, "![reward against cost](comparison.png)"])
        write_atomic(out / "comparison.md", text)
    return parts
