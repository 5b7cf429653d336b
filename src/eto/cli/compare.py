"""`eto compare`: methods under one budget, with the controls that decide what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.cli.compose import read_recipe
from eto.cli.progress import Progress
from eto.data.files import write_atomic, write_json
from eto.evaluation.compared import compared, compared_markdown


def compare_recipes(paths: Sequence[Path], overrides: Sequence[str], seeds: int, out: Path) -> None:
    """Run the recipes with seeds 0 to `seeds` - 1 in `out`; write and print the table."""
    from eto.experiment.comparison import compare

    recipes = [read_recipe(path, overrides, "run") for path in paths]
    with Progress() as progress:
        entries = compare(recipes, range(seeds), out, progress)
        runs = {label: [each.recipe.directory for each in group] for label, group in entries.items()}
        controls = {
            recipe.name: {
                group[0].control: label
                for label, group in entries.items()
                if group[0].control and label.startswith(f"{recipe.name}: ")
            }
            for recipe in recipes
        }
        table = compared(runs, controls)
        text = compared_markdown(table)
        write_json(out / "comparison.json", table)
        write_atomic(out / "comparison.md", text)
        progress.say(text)
        progress.say(f"written: {out / 'comparison.md'}, {out / 'comparison.json'}")
