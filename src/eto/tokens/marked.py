"""Samples as text, cut where loss begins and ends: what a person is shown of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from eto.tokens.rendered import Rendered


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens in a row that all belong to one turn with loss, or to none."""

    text: str
    turn: int
    """Of the agent, from 0; -1: none that carries loss."""
    count: int
    """Its tokens."""

    @property
    def carries(self) -> bool:
        """Whether loss falls on it."""
        return self.turn >= 0


def pieces(tokenizer: Any, sample: Rendered) -> list[Piece]:
    """The text of a sample in order, in as few pieces as its turns allow."""
    found = []
    for turn, run in groupby(zip(sample.turns, sample.ids, strict=True), key=itemgetter(0)):
        ids = [token for _, token in run]
        found.append(Piece(tokenizer.decode(ids), turn, len(ids)))
    return found
