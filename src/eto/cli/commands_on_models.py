"""Commands of `eto` on models: taken out, and watched as they play."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eto.cli import completion
from eto.cli.commands import EnvironmentName, Overwrite, Split, app


@app.command("export-model")
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL", help="Directory of a run, or a model.", autocompletion=completion.agents
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")],
    *,
    agent: Annotated[str, typer.Option(help="Of a run; by default the one that it ships.")] = "",
    adapter: Annotated[
        Literal["merge", "keep"], typer.Option(help="An adapter merged into its base, or by itself.")
    ] = "merge",
    dtype: Annotated[
        str,
        typer.Option(
            help="float32, bfloat16 or float16. [the base's]",
            autocompletion=completion.one_of("float32", "bfloat16", "float16"),
        ),
    ] = "",
    licence: Annotated[
        str, typer.Option("--license", help="For the card, such as apache-2.0. [the base's]")
    ] = "",
    gguf: Annotated[bool, typer.Option("--gguf", help="Also as GGUF, by llama.cpp's converter.")] = False,
    converter: Annotated[
        Path | None, typer.Option(help="llama.cpp's convert_hf_to_gguf.py, where PATH does not have it.")
    ] = None,
    push: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Also to the Hub, private.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write an agent for other programs: weights in one type, chat template, generation config, card."""
    from eto.cli.export_model import Wanted, export_model

    wanted = Wanted(agent, adapter, dtype, licence, gguf, converter, push)
    export_model(what, out, wanted, overwrite)


@app.command("play")
def play_episode(
    name: EnvironmentName,
    options: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE")] = None,
    *,
    task: Annotated[str, typer.Option(help="Id of the task. [the first]")] = "",
    split: Split = "train",
    expert: Annotated[bool, typer.Option("--expert", help="An expert proposes actions.")] = False,
    model: Annotated[
        str, typer.Option("--model", help="An agent proposes actions.", autocompletion=completion.models)
    ] = "",
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the agent; 0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the agent's sampling.")] = 0,
    max_action_tokens: Annotated[int, typer.Option(min=1, help="Longest action of the agent.")] = 256,
    out: Annotated[Path | None, typer.Option("--out", help="File for the episode.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Play an environment in the terminal, by hand or beside an expert or agent, turn by turn."""
    from eto.cli.environments import suite_with
    from eto.cli.play import Wanted, play

    wanted = Wanted(task, split, expert, model, temperature, seed, max_action_tokens, out, overwrite)
    play(suite_with(name, options or []), wanted)
