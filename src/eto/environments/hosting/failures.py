"""Why episodes failed: the reasons counted, for messages and reports."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

MOST = 3
LONGEST = 400
_EXCEPTION = re.compile(r".*?:\d+: [\w.]+(?=: |$)")
"""file:line: Type"""


def one_line(text: str) -> str:
    """`text` on one line, cut in the middle where it is very long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def commonest(reasons: Iterable[str], most: int = MOST) -> str:
    """The commonest of `reasons`, one a line with its count, hints left out.

    Reasons that differ in the text of one exception from one place, or in numbers alone, count together;
    the first of them is shown.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for reason in reasons:
        line = one_line(re.split(r"\n  (?:hint|mend): ", reason)[0]) or "no reason given"
        raised = _EXCEPTION.match(line)
        group = raised[0] if raised else re.sub(r"\d+", "#", line)
        counts[group] += 1
        examples.setdefault(group, line)
    lines = [f"{count} × {examples[group]}" for group, count in counts.most_common(most)]
    if len(counts) > most:
        rest = counts.total() - sum(count for _, count in counts.most_common(most))
        lines.append(f"{rest} × other reasons")
    return "\n".join(f"  {line}" for line in lines)
