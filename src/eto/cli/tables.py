"""Tables as wide as the terminal, and Markdown where the output is read by another program."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from eto.cli.terminal import terminal
from eto.evaluation.parts import Part, parts_markdown, parts_terminal


def print_parts(parts: Sequence[Part], console: Console | None = None) -> None:
    """Print texts and tables one after another."""
    console = console or terminal()
    if console.is_terminal:
        for part in parts_terminal(parts):
            console.print(part, soft_wrap=False)
    else:
        console.print(parts_markdown(parts).rstrip("\n"), soft_wrap=True)
