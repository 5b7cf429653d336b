"""The one way to print: text from elsewhere appears as it is.

Nothing in it is markup, an emoji code or a number to colour; control characters are shown as escapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from eto.data.texts import shown


class _Terminal(Console):
    """Prints text as it is, whatever it is part of."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)


def terminal(file: IO[str] | None = None, **options: Any) -> Console:
    """A console for text of any content; on standard output, or `stderr=True`, or `file`."""
    return _Terminal(file=file, markup=False, emoji=False, highlight=False, **options)


def say(text: str) -> None:
    """Print lines on standard output."""
    terminal().print(text, soft_wrap=True)


def warn(text: str) -> None:
    """Print lines on standard error."""
    terminal(stderr=True).print(text, soft_wrap=True)
