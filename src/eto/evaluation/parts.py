"""Texts and tables one after another: as Markdown for a file, or fitted to a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eto.data.texts import markdown_text, shown
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
    title: str = ""
    """A line of plain text above it."""


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences of plain text, as a list."""

    lines: Sequence[str]


Part = str | Rows | Notes
"""A paragraph in Markdown, a table, or a list."""


def parts_markdown(parts: Sequence[Part]) -> str:
    """The parts as one Markdown text."""
    return "\n\n".join(text for part in parts for text in _markdown(part)) + "\n"


def parts_terminal(parts: Sequence[Part]) -> Iterator[FittedTable | Text]:
    """The parts for a terminal, a blank line between them."""
    from rich.text import Text

    for number, part in enumerate(parts):
        if number:
            yield Text("")
        match part:
            case Rows():
                yield rich_table(part.header, part.rows, part.title or None)
            case Notes():
                yield Text("\n".join(f"• {shown(line, line=True)}" for line in part.lines))
            case _:
                yield Text(part)


def _markdown(part: Part) -> Iterator[str]:
    match part:
        case Rows():
            if part.title:
                yield markdown_text(part.title)
            yield markdown_table(part.header, part.rows, part.corner)
        case Notes():
            yield "\n".join(f"- {markdown_text(line)}" for line in part.lines)
        case _:
            yield part
