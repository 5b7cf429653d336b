"""What a reader left out, replaced or read by a rule: counted over a file, and reported once."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 12
"""Names of ignored fields that are listed."""


@dataclass(slots=True)
class Notes:
    """Counts of one file, by what happened."""

    events: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    """Fields that change neither what is shown nor what is trained, by name."""

    def lines(self) -> list[str]:
        """One sentence for each kind of event, with its count."""
        lines = [f"{what}: {count}" for what, count in self.events.items()]
        if self.ignored:
            names = [f"{name} ({count})" for name, count in self.ignored.most_common(SHOWN)]
            more = len(self.ignored) - len(names)
            lines.append(f"ignored fields: {', '.join(names)}" + (f" and {more} more" if more else ""))
        return lines

    def tell(self, path: str | Path) -> None:
        """Warn with each line; the command line prints them on standard error."""
        for line in self.lines():
            warnings.warn(f"{path}: {line}", stacklevel=3)
