"""What a run directory has noted about itself, read back with each damage reported as what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eto.data.files import read_object
from eto.errors import InputError, RunConflict
from eto.experiment.recipe import recipe_diff


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the run in `directory`. Raises `InputError` where it is missing or damaged."""
    return read_object(directory / "manifest.json", "versions", "splits", "starts")


def read_done(path: Path) -> dict[str, Any]:
    """What a stage noted in its DONE file. Raises `InputError` where that is damaged."""
    record = read_object(path, "stage", "seconds", "finished", "metrics")
    types = {"metrics": dict, "seconds": int | float, "stage": str, "finished": str}
    if not all(isinstance(record[name], kind) for name, kind in types.items()):
        raise InputError("no record of a finished stage", where=str(path), hint="restore it from a copy")
    return record


def check_place(directory: Path) -> None:
    """A run must not write among other files. Raises `RunConflict`."""
    if not directory.is_dir() or (directory / "lock").exists():
        return
    others = sorted(path.name for path in directory.iterdir())
    if others:
        raise RunConflict(
            f"the directory holds files and no run: {', '.join(others[:5])}",
            where=str(directory),
            hint="take an empty directory, or one that does not exist yet, as run_directory",
        )


def check_template(manifest: Mapping[str, Any], facts: Mapping[str, Any], directory: Path) -> None:
    """Raises `RunConflict` when the run was started with another chat template or tokenizer than that of
    `facts` (`Renderer.facts`): token ids and log-probs that it kept would belong to other text."""
    known = manifest.get("chat_template")
    if known is not None and known != dict(facts):
        raise RunConflict(
            "the run was started with another chat template or tokenizer\n  "
            + "\n  ".join(recipe_diff(known, facts)),
            where=str(directory),
            hint="give the template and the tokenizer it was started with, or take another run directory",
        )


def noted_seconds(path: Path) -> float:
    """Wall seconds of a stage's earlier attempts; 0 where there were none. Raises `InputError`."""
    try:
        return float(path.read_text()) if path.exists() else 0.0
    except ValueError:
        hint = "delete it: the stage's time then counts from now"
        raise InputError("is not a number of seconds", where=str(path), hint=hint) from None
