"""`eto show-mask`: which tokens carry loss, in colour, or as plain lines where there is none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from eto.cli.compose import read_recipe
from eto.cli.terminal import terminal
from eto.data.formats import read_sides
from eto.data.texts import whole
from eto.experiment.recipe import Recipe
from eto.tokens.marked import pieces
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.tokens.rendering import Rendered, Renderer


def show(
    file: Path, model: str | None, limit: int, recipe_path: Path | None, overrides: Sequence[str]
) -> None:
    """Print the first `limit` trajectories of `file`, two a pair; tokens with loss are on green.

    Where the output is not a terminal, each turn stands in a line of its own, as Python writes text.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    recipe = read_recipe(recipe_path, overrides, "show-mask", model=model)
    trajectories = read_sides(file)[:limit]
    renderer = _renderer(recipe, model or recipe.model.path)
    console = terminal()
    for trajectory in trajectories:
        samples = renderer.samples(trajectory)
        title = f"{trajectory.task.id} ({trajectory.source}, reward {trajectory.reward:g})"
        if console.is_terminal:
            console.rule(title)
            for rendered in samples:
                console.print(_coloured(renderer, rendered))
        else:
            console.print(f"--- {title}", soft_wrap=True)
            for rendered in samples:
                console.print(renderer.tokenizer.decode(list(rendered.ids)), soft_wrap=True)
        for line in _summary(renderer, trajectory, samples):
            console.print(line, soft_wrap=True)


def _coloured(renderer: Renderer, rendered: Rendered) -> Text:
    text = Text()
    for piece in pieces(renderer.tokenizer, rendered):
        text.append(piece.text, style="black on green" if piece.carries else "dim")
    return text


def _summary(renderer: Renderer, trajectory: Trajectory, samples: Sequence[Rendered]) -> list[str]:
    """How many tokens carry loss, and the text of each turn's."""
    marked, total = sum(sum(each.mask) for each in samples), sum(len(each.ids) for each in samples)
    lines = [f"{marked} of {total} tokens carry loss"]
    if len(samples) > 1:
        lines[0] += f", in {len(samples)} samples: the template writes past turns again"
    if not marked:
        lines.append("nothing to train on: no turn carries loss")
    for number, turn in enumerate(trajectory.turns):
        ids = [
            token
            for each in samples
            for token, label in zip(each.ids, each.turns, strict=True)
            if label == number
        ]
        if ids:
            lines.append(f"turn {number}: {renderer.tokenizer.decode(ids)!r}")
        else:
            lines.append(f"turn {number}, no loss: {whole(turn.action)!r}")
    return lines


def _renderer(recipe: Recipe, model: str) -> Renderer:
    from eto.tokens.rendering import Renderer

    given = recipe.model
    return Renderer(
        _tokenizer(model),
        given.chat_template,
        arguments=given.chat_template_kwargs,
        thoughts=given.thoughts,
        today=given.date,
    )


def _tokenizer(model: str) -> Any:
    """Of a model, or of a directory that has nothing but a tokenizer."""
    from eto.models.checkpoint import has_vocabulary
    from eto.models.loading import Source, find_model, load_tokenizer

    folder = Path(model).expanduser()
    alone = folder.is_dir() and has_vocabulary(folder)
    return load_tokenizer(Source(str(folder), str(folder)) if alone else find_model(model))
