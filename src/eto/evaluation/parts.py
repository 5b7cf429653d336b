"""Texts and tables one after another: as Markdown for a file, or fitted to a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eto.evaluation.table import Cell, FittedTable, markdown_table, rich_table

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class Rows:
    """A table."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    corner: str = ""
    """The first column's head as Markdown, where it is more than text."""


Part = str | Rows
"""A paragraph in Markdown, or a table."""


def parts_markdown(parts: Sequence[Part]) -> str:
    """The parts as one Markdown text."""
    texts = (
        part if isinstance(part, str) else markdown_table(part.header, part.rows, part.corner)
        for part in parts
    )
    return "\n\n".join(texts) + "\n"


def parts_terminal(parts: Sequence[Part]) -> Iterator[FittedTable | Text]:
    """The parts for a terminal, a blank line between them."""
    from rich.text import Text

    for number, part in enumerate(parts):
        if number:
            yield Text("")
        yield Text(part) if isinstance(part, str) else rich_table(part.header, part.rows)
