"""Commands in the help of `eto`, each with its whole first sentence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_LONGEST = 1000
"""Characters of a first sentence: no limit, as lines are broken between words."""


class Commands(TyperGroup):
    """A group of commands whose help cuts no sentence off."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line or more for each command."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [
            (name, each.get_short_help_str(_LONGEST)) for name, each in commands if each and not each.hidden
        ]
        if shown:
            with formatter.section("Commands"):
                formatter.write_dl(shown)
