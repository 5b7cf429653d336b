"""Commands that look at runs, or at what they train on: their options, and what each calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eto.cli import completion
from eto.cli.commands import Model, Overrides, Overwrite, RecipePath, RunDirectory, Split, app
from eto.errors import InputError


@app.command()
def report(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Directories of runs.", autocompletion=completion.runs),
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", help="Runs to compare with, one for each, in order.", autocompletion=completion.runs
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for the table of several runs.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="File for the pages of the run, or of several pooled.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME,...",
            help="Of one run: md, html, csv, latex. [md,html]",
            autocompletion=completion.some_of("md", "html", "csv", "latex"),
        ),
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=0, help="Tasks, episodes and pairs of a run that HTML shows, of each.")
    ] = 12,
    overwrite: Overwrite = False,
) -> None:
    """Write the report of a run, as one HTML file too, and print its table; of several runs (seeds), one
    pooled table, and with --html their pages."""
    from eto.cli.report import report_run, report_runs

    if len(directories) == 1 and out is None and not against:
        report_run(directories[0], "md,html" if form is None else form, episodes, html, overwrite)
    elif form is not None:
        hint = "leave it out: --out writes the table of several runs, --html their pages"
        raise InputError("it is for the report of one run", where="--format", hint=hint)
    else:
        report_runs(directories, against or [], out=out, html=html, episodes=episodes, overwrite=overwrite)


@app.command()
def recipes(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Those to write. [all]", show_default=False)
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write recipes to.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """List the recipes that come with eto, or write them to a folder, to be changed."""
    from eto.cli.recipes import list_recipes, write_recipes

    if out is None and overwrite:
        raise InputError("nothing is written", where="--overwrite", hint="give --out FOLDER")
    if out is None:
        list_recipes(names or [])
    else:
        write_recipes(names or [], out, overwrite)


@app.command("compare")
def compare_methods(
    recipes: Annotated[
        list[Path],
        typer.Argument(help="Recipes, each with a name of its own.", autocompletion=completion.recipes),
    ],
    *,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...",
            help="One recipe with these methods, or with `all` that can.",
            autocompletion=completion.methods,
        ),
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Of all-experts, same-tokens and own, those of the method. [all]",
            autocompletion=completion.some_of("all-experts", "same-tokens", "own"),
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the runs and of the table.")],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N - 1.")] = 3,
    only: Annotated[
        list[int] | None, typer.Option("--seed", metavar="SEED", help="This seed instead; may be repeated.")
    ] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE, in all recipes.")] = None,
) -> None:
    """Run recipes, or one recipe with several methods, with several seeds, beside the controls that decide
    what each is worth; tables of paired intervals and costs, and a figure. The same command resumes."""
    from eto.cli.compare import chosen_seeds, compare_recipes

    compare_recipes(recipes, change or [], chosen_seeds(seeds, only or []), out, methods, controls)


@app.command("join-comparisons")
def join_several_comparisons(
    comparisons: Annotated[
        list[Path], typer.Argument(help="Directories of comparisons, or their comparison.json files.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the tables and the figure.")],
) -> None:
    """Join comparisons that were run in several places, with other seeds or recipes, into one table and
    figure. Their runs are not needed."""
    from eto.cli.compare import join_comparisons

    join_comparisons(comparisons, out)


@app.command()
def sweep(
    recipe: Annotated[
        Path, typer.Argument(help="The recipe that is varied.", autocompletion=completion.recipes)
    ],
    *,
    vary: Annotated[
        list[str], typer.Option(metavar="FIELD=VALUE,VALUE", help="A setting and other values of it.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory of the runs and of the table.")],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N - 1.")] = 1,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A run to take stages from, or a directory of seed-0, ...",
            autocompletion=completion.runs,
        ),
    ] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE, in all variants.")] = None,
) -> None:
    """Vary settings of a recipe one at a time and compare the agents on dev tasks, paired with those of the
    recipe as it is. No test task is played. The same command resumes."""
    from eto.cli.sweep import sweep_settings

    sweep_settings(recipe, vary, change or [], seeds, out, source)


@app.command("compare-models")
def compare_two_models(
    first: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run, `embedded`, a directory, or a Hub id.",
            autocompletion=completion.agents,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="The one that is compared with it.", autocompletion=completion.agents
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for episodes and tables.")],
    split: Split = "test",
    recipe: RecipePath = None,
    overrides: Overrides = None,
) -> None:
    """Play two models on the same tasks: figures, the paired difference, tasks gained and lost. The same
    command resumes."""
    from eto.cli.compare_models import compare_models

    compare_models(first, second, split, out, recipe, overrides or [])


@app.command()
def runs(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN", help="Runs, or directories of runs. [runs]", autocompletion=completion.runs
        ),
    ] = None,
) -> None:
    """List runs: state, method, and the reward and success of the agent that each ships."""
    from eto.cli.runs import list_runs

    list_runs(directories or [])


@app.command()
def view(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN", help="Runs, or directories that hold runs. [runs]", autocompletion=completion.runs
        ),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="Name or address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 7420,
) -> None:
    """Look at runs in the browser: figures, what changed, episodes and pairs. It only reads."""
    from eto.cli.view import view_runs

    view_runs(runs or [], host, port)


@app.command()
def show(
    run: RunDirectory,
    *,
    gained: Annotated[
        bool, typer.Option("--gained", help="Tasks that the agent solves and the other does not.")
    ] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="Tasks that the other solves and the agent does not.")
    ] = False,
    agent: Annotated[str, typer.Option(help="By default the one that the run ships.")] = "",
    against: Annotated[str, typer.Option(help="By default the run's first agent.")] = "",
    task: Annotated[str, typer.Option(help="Its id, such as scienceworld/find-plant/17.")] = "",
    outcome: Annotated[
        str, typer.Option(help="won or lost.", autocompletion=completion.one_of("won", "lost"))
    ] = "",
    pairs: Annotated[int | None, typer.Option(min=1, help="Pairs of this round.")] = None,
    split: Annotated[
        str,
        typer.Option(
            help="By default test, or dev where that was not played.",
            autocompletion=completion.one_of("test", "dev"),
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Tasks, episodes or pairs to show.")] = 1,
) -> None:
    """What changed between two agents of a run; with options, episodes or pairs turn by turn."""
    from eto.cli.show import Wanted, show_run

    group = "both" if gained and lost else "gained" if gained else "lost" if lost else ""
    show_run(run, Wanted(split, agent, against, task, group, outcome, pairs, limit))


@app.command("score-pairs")
def score_pairs(
    run: RunDirectory,
    *,
    number: Annotated[
        int | None, typer.Option("--round", min=1, help="Round of the pairs. [all that were trained on]")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pairs of a round to score, from the first.")] = 100,
    before: Annotated[
        str, typer.Option(help="The agent that training began with. [the one made before it]")
    ] = "",
) -> None:
    """Log-probs of each turn of pairs before and after training on them, for `eto view` and `eto report`."""
    from eto.cli.score_pairs import score_run

    score_run(run, number, limit, before)


@app.command("show-mask")
def show_loss_mask(
    file: Path,
    model: Model = None,
    limit: Annotated[int, typer.Option(min=1, help="Trajectories to show.")] = 1,
    recipe: RecipePath = None,
    overrides: Overrides = None,
) -> None:
    """Colour the tokens of trajectories or pairs that carry loss."""
    from eto.cli.show_mask import show

    show(file, model, limit, recipe, overrides or [])
