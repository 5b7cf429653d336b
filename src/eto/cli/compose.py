"""The recipe of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.cli.effect import check_effect
from eto.experiment.recipe import Recipe, load_recipe, parse_recipe

BARE = "name: command\nenvironment: {name: scienceworld}\n"
"""What a single stage runs with where no recipe is given: the paper's defaults."""


def read_recipe(
    path: Path | None,
    overrides: Sequence[str],
    command: str = "run",
    *,
    split: str = "",
    model: str | None = None,
) -> Recipe:
    """The recipe at `path`, or the defaults, with overrides, which must have an effect on `command`."""
    recipe = load_recipe(path, overrides) if path else parse_recipe(BARE, overrides, source="defaults")
    check_effect(command, recipe, overrides, split=split, model=model)
    return recipe
