"""`eto report`: the report of a run or of several, in the forms that are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from eto.cli.outputs import HTML, check_file
from eto.cli.progress import Progress
from eto.cli.run import print_pooled, print_report
from eto.cli.terminal import say
from eto.data.files import disk_errors, read_json, write_atomic
from eto.errors import EtoError, InputError, MissingRequirement
from eto.experiment.recipe import RUN_FILE

FORMS = ("md", "html", "csv", "latex")


def report_run(directory: Path, form: str, episodes: int, html: Path | None, overwrite: bool) -> None:
    """Write report.md and the figures of a run, as always, and besides report.html and tables as CSV or
    LaTeX, where `form` names them; print the table. html: where report.html goes instead.

    What can be read is shown and written, before `EtoError` tells what could not. A directory that cannot
    be written is no fault where `html` leads elsewhere.
    """
    forms = _forms(form)
    path = _place(html, [directory], overwrite)
    kept = None
    try:
        print_report(directory)
        _write_tables(directory, forms)
    except EtoError as error:
        if not (directory / RUN_FILE).is_file():
            raise
        kept = error
    writable = os.access(directory, os.W_OK)
    if path is None and "html" in forms and writable:
        path = directory / "report.html"
    if path is not None:
        _write_page(path, _pages().report_page(directory, episodes))
    if kept is None:
        return
    if writable:
        raise kept
    if path is None:
        hint = "make it writable, or let --html FILE write the pages elsewhere"
        raise InputError(kept.problem, where=kept.where, hint=hint)
    say(f"nothing else is written: {kept}")


def report_runs(
    directories: Sequence[Path],
    against: Sequence[Path],
    *,
    out: Path | None,
    html: Path | None,
    episodes: int,
    overwrite: bool,
) -> None:
    """Print the pooled table of several runs, or what sets them apart from others, or write it to `out`;
    and write their pages to `html`."""
    path = _place(html, [*directories, *against], overwrite)
    print_pooled(directories, against, out, overwrite)
    if path is not None:
        _write_page(path, _pages().pooled_page(directories, against, episodes))


def _forms(form: str) -> list[str]:
    forms = [name.strip() for name in form.split(",") if name.strip()]
    for name in forms:
        if name not in FORMS:
            hint = f"use {', '.join(FORMS)}, with commas between them"
            raise InputError(f"there is no form {name!r}", where="--format", hint=hint)
    return forms


def _place(html: Path | None, runs: Sequence[Path], overwrite: bool) -> Path | None:
    """`html`, once it is known that it can be written and would cost no other file."""
    if html is not None:
        inputs = {f"the run {run.name}": run for run in runs}
        check_file(html, overwrite=overwrite, inputs=inputs, option="--html", form=HTML)
    return html


def _write_tables(directory: Path, forms: Sequence[str]) -> None:
    results = read_json(directory / "results.json")
    from eto.evaluation.exported import write_tables

    for name in ("csv", "latex"):
        if name in forms:
            written = write_tables(results, directory / "tables", name)
            Progress().say(
                f"{len(written)} tables {directory / 'tables'}/*{written[0].suffix if written else ''}"
            )


def _write_page(path: Path, text: str) -> None:
    with disk_errors(path):
        write_atomic(path, text)
    Progress().say(f"one file to open or to mail, {len(text.encode()) / 1e6:.1f} MB: {path}")


def _pages() -> ModuleType:
    """The module that writes pages, which needs packages of its own."""
    try:
        from eto.viewer import report
    except ModuleNotFoundError as error:
        hint = "pip install 'eto-agent[view]', or leave html out of --format"
        raise MissingRequirement(f"the package {error.name!r} is not installed", hint=hint) from error
    return report
