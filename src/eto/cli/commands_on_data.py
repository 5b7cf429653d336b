"""Commands that take data in and out: their options, and what each calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eto.cli import completion
from eto.cli.commands import Overwrite, app


@app.command("import")
def import_data(
    files: Annotated[list[Path], typer.Argument(help="Files or saved data sets, in any form that is known.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="A file, or a directory to sort them into.")],
    source: Annotated[
        str | None, typer.Option(help="Who acted, `expert` or a name, in place of what the items say.")
    ] = None,
    reward: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Reward of items that state neither `reward` nor `success`."),
    ] = None,
    solved_from: Annotated[
        float,
        typer.Option(min=0, max=1, help="Reward from which an episode without `success` counts as one."),
    ] = 1.0,
    overwrite: Overwrite = False,
) -> None:
    """Trajectories and pairs of other tools as the project's own files; in a directory, successes,
    failures and pairs apart."""
    from eto.cli.importing import import_files

    import_files(files, out, source, reward, solved_from, overwrite)


@app.command("export")
def export_data(
    origin: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE", help="Directory of a run, or a data file.", autocompletion=completion.runs
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Ending .jsonl, .json, .parquet, .arrow or .eval; none: a `datasets` directory."
        ),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="own, sharegpt, agenttraj, openai, trl or inspect.",
            autocompletion=completion.one_of("own", "sharegpt", "agenttraj", "openai", "trl", "inspect"),
        ),
    ] = "own",
    what: Annotated[
        str,
        typer.Option(
            help="Of a run: episodes, experts or pairs. [episodes]",
            autocompletion=completion.one_of("episodes", "experts", "pairs"),
        ),
    ] = "",
    phase: Annotated[
        str, typer.Option(help="Pattern of phases, such as explore/*; of pairs, of stages.")
    ] = "",
    task: Annotated[str, typer.Option(help="Pattern of task ids, such as scienceworld/find-plant/*.")] = "",
    outcome: Annotated[
        str, typer.Option(help="won or lost.", autocompletion=completion.one_of("won", "lost"))
    ] = "",
    least: Annotated[float | None, typer.Option("--min-reward", help="Episodes of at least this.")] = None,
    most: Annotated[float | None, typer.Option("--max-reward", help="Episodes of at most this.")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Write a folder for the Hub: a table, and a card from the run.")
    ] = False,
    push: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Such a folder, uploaded as a private data set.")
    ] = "",
    licence: Annotated[str, typer.Option("--license", help="For the card, such as apache-2.0.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Episodes, expert trajectories or pairs in the forms of other tools, as lines, tables or data sets."""
    from eto.cli.exporting import Filter, Hub, export_records

    wanted, hub = Filter(phase, task, outcome, least, most), Hub(card, push, licence)
    export_records(origin, out, form, what, wanted, hub, overwrite)
