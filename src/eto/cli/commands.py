"""The `eto` command: its options, and what each command calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eto import __version__
from eto.cli import completion
from eto.cli.listing import Commands
from eto.cli.stopping import stopping

app = typer.Typer(
    cls=Commands,
    help="Train language-model agents by trial and error (ETO, arXiv 2403.02502).",
    rich_markup_mode=None,  # brackets in help and in a user's mistyped words are text
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RecipePath = Annotated[
    Path | None,
    typer.Option("--recipe", help="Recipe to take settings from.", autocompletion=completion.recipes),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY.PATH=VALUE",
        help="Values that override the recipe's.",
        autocompletion=completion.overrides,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what --out names.")]
Results = Annotated[Path | None, typer.Option("--results", help="File for the figures, as JSON.")]
ModelName = Annotated[
    str,
    typer.Option("--name", help="Of the agent: stands in training.json, and names it when it plays."),
]
AgentName = Annotated[
    str, typer.Option("--name", help="Of the agent: `source` of its episodes. [the model's, or policy]")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="`embedded`, a directory, or a Hub id. [recipe's model.path]",
        autocompletion=completion.models,
    ),
]
Split = Annotated[
    str, typer.Option(help="train, dev or test.", autocompletion=completion.one_of("train", "dev", "test"))
]
RecipeFile = Annotated[Path, typer.Argument(help="The recipe.", autocompletion=completion.recipes)]
RunDirectory = Annotated[Path, typer.Argument(help="Directory of a run.", autocompletion=completion.runs)]
EnvironmentName = Annotated[
    str, typer.Argument(help="Of an environment.", autocompletion=completion.environments)
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"eto {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    stopping.begin(context.invoked_subcommand or "")


@app.command("run")
def run_whole(
    recipe: RecipeFile,
    overrides: Overrides = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Run whose finished stages to take, as far as it can be.",
            autocompletion=completion.runs,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON lines; with --plan the plan.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Tell memory, disk, tokens and hours, check all; run nothing.")
    ] = False,
    hardware: Annotated[
        str, typer.Option(help="What to plan for: this, or such as 8xA100-80GB.", metavar="NAME")
    ] = "this",
) -> None:
    """Run a whole recipe: clone, evaluate, explore, contrast, optimise, report. Goes on where it stopped."""
    if plan:
        from eto.cli.plan import print_plan

        stopping.begin("run", "nothing was begun")
        raise typer.Exit(print_plan(recipe, overrides or [], hardware, as_json, quiet=quiet, source=source))
    if hardware != "this":
        from eto.errors import InputError

        raise InputError("it concerns plans", where="--hardware", hint="add --plan, or leave it out")
    from eto.cli.run import run_recipe

    run_recipe(recipe, overrides or [], source, quiet=quiet, as_json=as_json)


@app.command()
def expert(
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    split: Split = "train",
    results: Results = None,
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Collect expert trajectories, replayed and kept only where they solve the task."""
    from eto.cli.stages import collect

    collect(out, split, recipe, overrides or [], overwrite, results)


@app.command("replay")
def replay_trajectories(
    file: Path,
    out: Annotated[Path, typer.Option("--out", help="File for the verified ones.")],
    failed: Annotated[Path | None, typer.Option("--failed", help="File for the others.")] = None,
    results: Results = None,
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Play the actions of a file's trajectories again, and keep those that earn what it says."""
    from eto.cli.replaying import replay_file

    replay_file(file, out, failed, recipe, overrides or [], overwrite, results)


@app.command()
def sft(
    expert: Annotated[Path, typer.Option("--expert", help="Expert trajectories.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the model.")],
    model: Model = None,
    name: ModelName = "",
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Clone an expert: fine-tune on its actions."""
    from eto.cli.training import clone

    clone(expert, out, model, recipe, overrides or [], overwrite, name)


@app.command()
def explore(
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    split: Split = "train",
    model: Model = None,
    name: AgentName = "",
    results: Results = None,
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Let an agent play tasks and keep its trajectories."""
    from eto.cli.stages import explore_tasks

    explore_tasks(out, split, model, recipe, overrides or [], overwrite, name, results)


@app.command()
def pairs(
    expert: Annotated[Path, typer.Option("--expert", help="Expert trajectories.")],
    explored: Annotated[Path, typer.Option("--explored", help="The agent's trajectories.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    rules: Annotated[
        str,
        typer.Option(
            help="`eto`, or `reference`: exactly the paper's code.",
            autocompletion=completion.one_of("eto", "reference"),
        ),
    ] = "eto",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="own, sharegpt or trl.",
            autocompletion=completion.one_of("own", "sharegpt", "trl"),
        ),
    ] = "own",
    results: Results = None,
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Contrast expert and explored trajectories into preference pairs."""
    from eto.cli.stages import make_pairs

    make_pairs(expert, explored, out, rules, form, recipe, overrides or [], overwrite, results)


@app.command()
def dpo(
    pairs: Annotated[Path, typer.Option("--pairs", help="Preference pairs.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the model.")],
    replay: Annotated[
        Path | None,
        typer.Option("--rehearsal", "--replay", help="Trajectories to clone beside the pairs."),
    ] = None,
    model: Model = None,
    name: ModelName = "",
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Train an agent on preference pairs; the model as given is the reference."""
    from eto.cli.training import optimise

    optimise(pairs, out, replay, model, recipe, overrides or [], overwrite, name)


@app.command()
def evaluate(
    split: Split = "dev",
    out: Annotated[Path | None, typer.Option("--out", help="File for the trajectories.")] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="File for all figures, as JSON, by task type too.")
    ] = None,
    model: Model = None,
    name: AgentName = "",
    recipe: RecipePath = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Play a split and print reward and success with 95% intervals."""
    from eto.cli.stages import evaluate_model

    if out is None and results is None:
        stopping.begin("evaluate", "nothing is kept; with --out FILE, finished episodes are, and it resumes")
    evaluate_model(split, out, model, recipe, overrides or [], overwrite, name, results)


@app.command("doctor")
def look_at_machine(
    full: Annotated[bool, typer.Option("--full", help="Also slow checks: hashes, GPU.")] = False,
) -> None:
    """Look at Java, model cache, memory, threads and versions; say how to fix what is wrong."""
    from eto.cli.doctor import run_doctor
    from eto.cli.terminal import terminal

    raise typer.Exit(run_doctor(terminal(), full=full))


environments = typer.Typer(
    cls=Commands, help="List the environments, or check one.", invoke_without_command=True
)
app.add_typer(environments, name="environments")


@environments.callback()
def list_environments(context: typer.Context) -> None:
    """What is installed, what is missing and how to get it."""
    if context.invoked_subcommand is None:
        from eto.cli.environments import list_environments
        from eto.cli.terminal import terminal

        list_environments(terminal(soft_wrap=True))


@environments.command("check")
def check_environment(
    name: EnvironmentName,
    options: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Training tasks to check on.")] = 5,
    step_seconds: Annotated[float, typer.Option(min=0.1, help="Deadline of a step.")] = 30.0,
    reset_seconds: Annotated[float, typer.Option(min=0.1, help="Deadline of a reset.")] = 120.0,
) -> None:
    """Check that an environment keeps its contract: replay, reward, ends, malformed actions, isolation.

    Plays it as a run does, in a worker process with deadlines.
    """
    from eto.cli.environments import check
    from eto.cli.terminal import terminal

    code = check(terminal(soft_wrap=True), name, options or [], tasks, step_seconds, reset_seconds)
    raise typer.Exit(code)


@app.command("serve-environment")
def serve_environment(
    name: EnvironmentName,
    options: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE")] = None,
    protocol: Annotated[
        Literal["agentgym", "openenv"],
        typer.Option(help="AgentGym's over HTTP, or OpenEnv's over a WebSocket."),
    ] = "agentgym",
    split: Annotated[str, typer.Option(help="Whose tasks `data_idx` or `seed` counts through.")] = "train",
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    idle_seconds: Annotated[
        float, typer.Option(min=0.1, max=2_592_000, help="After which an unused session is closed.")
    ] = 600.0,
    sessions: Annotated[int | None, typer.Option(min=1, help="Most at a time, for OpenEnv. [64]")] = None,
) -> None:
    """Serve an environment over AgentGym's or OpenEnv's protocol."""
    from eto.cli.environments import serve

    serve(name, options or [], split, host, port, idle_seconds, protocol, sessions)
