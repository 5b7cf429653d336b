"""`eto show-mask`: which tokens carry loss, in colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from eto.cli.terminal import terminal
from eto.errors import InputError
from eto.formats import read_sides


def show(file: Path, model: str, limit: int) -> None:
    """Print the first `limit` trajectories of `file`; tokens with loss are on green."""
    from eto.rendering import Renderer, check_mask

    trajectories = read_sides(file)[:limit]
    renderer = Renderer(_tokenizer(model))
    console = terminal()
    for trajectory in trajectories:
        rendered = renderer.render(trajectory)
        check_mask(rendered, trajectory.task.id)
        text = Text()
        for token, marked in zip(rendered.ids, rendered.mask, strict=True):
            piece = renderer.tokenizer.decode([token])
            text.append(piece, style="black on green" if marked else "dim")
        marked = sum(rendered.mask)
        console.rule(f"{trajectory.task.id} ({trajectory.source}, reward {trajectory.reward:g})")
        console.print(text)
        console.print(f"{marked} of {len(rendered.ids)} tokens carry loss", highlight=False)
        if not console.is_terminal:
            agent = [
                [t for t, n in zip(rendered.ids, rendered.turns, strict=True) if n == k]
                for k in range(max(rendered.turns) + 1)
            ]
            for number, ids in enumerate(agent):
                console.print(f"turn {number}: {renderer.tokenizer.decode(ids)!r}", highlight=False)


def _tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    from eto.policies.embedded import embedded_model

    source = embedded_model() if model == "embedded" else model
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load a tokenizer: {str(error).splitlines()[0]}",
            where=str(source),
            mend="give `embedded`, a directory written by save_pretrained, or a Hub id",
        ) from error
