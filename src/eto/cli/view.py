"""`eto view`: runs in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.errors import InputError, MissingRequirement


def view_runs(directories: Sequence[Path], host: str, port: int) -> None:
    """Serve pages of the runs below `directories`, by default `runs`, until interrupted."""
    try:
        from eto.cli.serving import check_free, run_server
        from eto.viewer.app import build_app
    except ModuleNotFoundError as error:
        hint = "pip install 'eto-agent[view]'"
        raise MissingRequirement(f"the package {error.name!r} is not installed", hint=hint) from error
    roots = list(directories) or [Path("runs")]
    if not directories and not roots[0].is_dir():
        hint = "name the directory of a run, or one that holds runs"
        raise InputError("there is no directory `runs` here", where="eto view", hint=hint)
    check_free(host, port)
    run_server(build_app(roots, hosts=[host]), host, port)
