"""Folders for a model hub: a table of records with its card, and uploads of data sets and models."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from eto.data.atomic import atomic_directory
from eto.data.exports import TABLE, Kind, export, left_behind
from eto.data.files import disk_errors
from eto.data.notes import Notes
from eto.data.texts import shown
from eto.errors import EtoError, InputError
from eto.evaluation.data_card import Counts, DataFacts, data_card
from eto.experiment.recipe import RUN_FILE
from eto.experiment.recipe_yaml import read_text
from eto.types import Pair, Trajectory


def write_folder(
    records: Iterable[Trajectory | Pair],
    kind: Kind,
    form: str,
    out: Path,
    notes: Notes,
    *,
    source: Path,
    licence: str,
) -> int:
    """Write the table and the card; how many records were written. Raises as `export`."""
    counts = Counts()
    recipe, results = _of_run(source)
    with disk_errors(out), atomic_directory(out) as folder:
        written = export(counts.of(records), kind, form, folder / TABLE, notes)
        facts = DataFacts(
            title=source.resolve().name,
            pairs=kind == "pair",
            form=form,
            licence=licence,
            command=shlex.join(["eto", *sys.argv[1:]]),
            left_behind=left_behind(kind, form),
            recipe=recipe,
        )
        (folder / "README.md").write_text(data_card(facts, counts, results), encoding="utf-8")
    return written


def check_push(name: str) -> None:
    """Raises `InputError` for a name without an owner and where nobody is logged in: before the work."""
    from huggingface_hub import constants, get_token

    where = f"--push {shown(name, line=True)}"
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError("the Hub has no such names", where=where, hint="give OWNER/NAME")
    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set", where=where, hint="unset it, or leave --push out")
    if get_token() is None:
        hint = "log in with `hf auth login`, or set HF_TOKEN"
        raise InputError("nobody is logged in to the Hub", where=where, hint=hint)


def push(folder: Path, name: str, kind: Literal["dataset", "model"] = "dataset") -> None:
    """Upload the folder as a private data set or model of the Hub. Raises `InputError` where that does not
    work."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        hub = HfApi()
        hub.create_repo(name, repo_type=kind, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, repo_type=kind, folder_path=folder, ignore_patterns=[".saving/*"])
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, HTTPError, OSError) as error:
        raise InputError(
            f"the folder is written, but could not be pushed: {' '.join(str(error).split())[:200]}",
            where=f"--push {name}",
            hint="check the network and what the token may do; then the same command with --overwrite",
        ) from error


def _of_run(source: Path) -> tuple[str, dict[str, Any] | None]:
    """The recipe and the results of a run; "" and None of what is none, or not far enough."""
    from eto.evaluation.results import build_results

    path = source / RUN_FILE
    if not path.is_file():
        return "", None
    recipe = read_text(path)
    try:
        return recipe, build_results(source)
    except EtoError:
        return recipe, None
