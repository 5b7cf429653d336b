"""`eto report`: the report of a run, in the forms that are asked for."""

from __future__ import annotations

from pathlib import Path

from eto.cli.progress import Progress
from eto.cli.run import print_report
from eto.data.files import disk_errors, read_json, write_atomic
from eto.errors import InputError, MissingRequirement

FORMS = ("md", "html", "csv", "latex")


def report_run(directory: Path, form: str, episodes: int) -> None:
    """Write report.md and the figures of a run, as always, and besides report.html and tables as CSV or
    LaTeX, where `form` names them; print the table."""
    forms = [name.strip() for name in form.split(",") if name.strip()]
    for name in forms:
        if name not in FORMS:
            hint = f"use {', '.join(FORMS)}, with commas between them"
            raise InputError(f"there is no form {name!r}", where="--format", hint=hint)
    print_report(directory)
    progress = Progress()
    results = read_json(directory / "results.json")
    from eto.evaluation.exported import write_tables

    for name in ("csv", "latex"):
        if name in forms:
            written = write_tables(results, directory / "tables", name)
            progress.say(
                f"{len(written)} tables {directory / 'tables'}/*{written[0].suffix if written else ''}"
            )
    if "html" in forms:
        path = directory / "report.html"
        text = _html(directory, episodes)
        with disk_errors(path):
            write_atomic(path, text)
        progress.say(f"one file to open or to mail, {len(text.encode()) / 1e6:.1f} MB: {path}")


def _html(directory: Path, episodes: int) -> str:
    try:
        from eto.viewer.report import report_page
    except ModuleNotFoundError as error:
        hint = "pip install 'eto-agent[view]', or leave html out of --format"
        raise MissingRequirement(f"the package {error.name!r} is not installed", hint=hint) from error
    return report_page(directory, episodes)
