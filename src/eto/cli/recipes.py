"""`eto recipes`: the recipes that the package carries, listed or written to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.cli.terminal import say
from eto.experiment.shipped import copy_recipes, named_recipes, summary


def list_recipes(names: Sequence[str]) -> None:
    """Print each shipped recipe, or each of `names`, with what it does. Raises `InputError`: unknown name."""
    found = named_recipes(names)
    width = max(map(len, found))
    for name, path in found.items():
        say(f"{name:{width}}  {summary(path)}")
    say("eto run NAME runs one; eto recipes NAME --out FOLDER writes it there, to be changed.")


def write_recipes(names: Sequence[str], out: Path, overwrite: bool) -> None:
    """Write shipped recipes, by default all, below `out`, and print where. Raises `InputError`."""
    for path in copy_recipes(names, out, overwrite=overwrite):
        say(f"written: {path}")
