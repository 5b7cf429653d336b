"""Draws docs/images/mask.svg: a short pair, token by token, with what carries loss.

python scripts/mask_picture.py
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from eto.models.loading import find_model, load_tokenizer
from eto.tokens.rendered import Rendered
from eto.tokens.rendering import Renderer
from eto.types import Message, StopReason, Task, Trajectory, Turn

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "mask.svg"
PROMPT = (Message("user", "Find an animal. You are in the hallway."),)
CHOSEN = (("go outside", "You move outside."), ("focus on dove", "You focus on the dove."))
REJECTED = (("go outside", "You move outside."), ("focus on tree", "You focus on the tree."))
WIDTH, LINE, GLYPH, PAD = 900, 26, 7.3, 4
COLOURS = {"chosen": "#2da44e", "rejected": "#cf222e", "shared": "#8c959f"}


def main() -> None:
    """Write the picture."""
    renderer = Renderer(load_tokenizer(find_model("embedded")))
    drawn: list[str] = []
    y = 24.0
    sides = {side: _rendered(renderer, turns) for side, turns in (("chosen", CHOSEN), ("rejected", REJECTED))}
    both = zip(sides["chosen"].ids, sides["rejected"].ids, strict=False)
    shared = next(place for place, (one, other) in enumerate(both) if one != other)
    for side, rendered in sides.items():
        y = _side(renderer, side, rendered, shared, drawn, y) + LINE
    key = "green, red: agent tokens that carry loss; grey: shared by both sides, cancel; plain: read only"
    drawn.append(_text(10, y, key, "#57606a"))
    body = "\n".join(drawn)
    PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 14:g}" role="img" '
        f'aria-label="Tokens of a chosen and a rejected trajectory; those of the agent carry loss">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<g font-family="ui-monospace, monospace" font-size="12">\n{body}\n</g>\n</svg>\n',
        encoding="utf-8",
    )


def _rendered(renderer: Renderer, turns: tuple[tuple[str, str], ...]) -> Rendered:
    task = Task("animal", "example", "example", "train")
    played = tuple(Turn(*turn) for turn in turns)
    [rendered] = renderer.samples(
        Trajectory(task, PROMPT, played, 1.0, True, StopReason.TERMINATED, "example")
    )
    return rendered


def _side(
    renderer: Renderer, side: str, rendered: Rendered, shared: int, drawn: list[str], y: float
) -> float:
    """Draws a trajectory, whose first `shared` tokens are the other's too, from height `y`; returns the
    height below it."""
    drawn.append(_text(10, y, f"{side}, reward {1 if side == 'chosen' else 0}", COLOURS[side], bold=True))
    x, y = 10.0, y + LINE
    for place, (token, marked) in enumerate(zip(rendered.ids, rendered.mask, strict=True)):
        piece = renderer.tokenizer.decode([token]).replace("\n", "↵")
        width = len(piece) * GLYPH + 2 * PAD
        if x + width > WIDTH - 10:
            x, y = 10.0, y + LINE
        if marked:
            colour = COLOURS["shared" if place < shared else side]
            drawn.append(
                f'<rect x="{x:g}" y="{y - 15:g}" width="{width:g}" height="20" rx="3" fill="{colour}"/>'
            )
        drawn.append(_text(x + PAD, y, piece, "#ffffff" if marked else "#57606a"))
        x += width + 2
    return y + LINE


def _text(x: float, y: float, text: str, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}"{weight} xml:space="preserve">{escape(text)}</text>'


if __name__ == "__main__":
    main()
