"""Episodes as tokens, by the tokenizer that an agent of the run was saved with. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from eto.errors import InputError
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.tokens.marked import Piece
    from eto.tokens.rendering import Renderer
    from eto.viewer.library import Shown


@dataclass(frozen=True, slots=True)
class Marked:
    """An episode as training on it lays it out."""

    agent: str
    """The stage whose tokenizer it is."""
    samples: list[list[Piece]]

    @property
    def carrying(self) -> int:
        return sum(piece.count for sample in self.samples for piece in sample if piece.carries)

    @property
    def total(self) -> int:
        return sum(piece.count for sample in self.samples for piece in sample)


def marked_tokens(shown: Shown, episode: Trajectory) -> Marked:
    """Raises `InputError` where the run keeps no model, or its template cannot lay the episode out."""
    from eto.tokens.marked import pieces

    model = model_of(shown)
    if model is None:
        hint = "it is there once an agent has been saved; `eto show-mask FILE` works without"
        raise InputError("the run keeps no tokenizer yet", where=shown.name, hint=hint)
    renderer = _renderer(model, (model / "tokenizer_config.json").stat().st_mtime)
    samples = renderer.samples(episode)
    return Marked(model.parent.name, [pieces(renderer.tokenizer, sample) for sample in samples])


def model_of(shown: Shown) -> Path | None:
    """The model that a stage of the run has saved first, with a tokenizer; None where there is none."""
    found = shown.directory.glob("stages/*/model/tokenizer_config.json")
    return min((path.parent for path in found), key=lambda path: (path.stat().st_mtime, path), default=None)


@lru_cache(2)
def _renderer(model: Path, stamp: float) -> Renderer:
    from eto.models.loading import Source, load_tokenizer
    from eto.tokens.rendering import Renderer

    return Renderer(load_tokenizer(Source(str(model), str(model))))
