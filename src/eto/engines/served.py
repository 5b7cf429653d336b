"""Whether a server acts with the weights it was given.

A load that did nothing, half of one, keys and values cached under the old weights: each gives answers that
look right. The log-probs of a fixed text tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from eto.engines.server.replica import Served

TEXT = (
    "The quick brown fox jumps over the lazy dog. In 1905 a clerk in Bern wrote that mass and energy are the "
    "same thing, and the world was never quite what it had been. Put the kettle on, open the window, walk to "
    'the end of the street and count the lamps: 1, 2, 3, 5, 8, 13. "Why there?" she asked; nobody knew. '
)
"""Read by model and server. Repeated, it is longer than a block of cached keys and values."""
TOKENS = 300
"""Of the fixed text, at most; a block holds 16 to 128."""
TOLERANCE = {"float32": 0.005, "bfloat16": 0.1, "float16": 0.05}
"""Largest average difference of a log-prob, in nats, that arithmetic of another order explains. Measured with
SmolLM2-135M: 4e-5 at most for a token in float32, 0.16 in bfloat16."""


def differs(served: Served, expected: Sequence[float], dtype: str) -> str | None:
    """How the server's answers show other weights than those that gave `expected`, log-probs of `served.ids`
    from the second on `[len(ids) - 1]` in nats; None where they do not."""
    tolerance = TOLERANCE[dtype]
    gaps = [abs(there - here) for there, here in zip(served.scores, expected, strict=True)]
    if (average := sum(gaps) / len(gaps)) > tolerance:
        return f"log-probs of a fixed text differ by {average:.2g} nats on average, at most {tolerance:g} do"
    # One token varies more than the average of many.
    if (gap := abs(served.written - served.scores[-1])) > 4 * tolerance:
        return f"what it has cached gives another log-prob than the text read anew: {gap:.2g} nats apart"
    return None


def unchanged(
    before: Served, after: Served, expected_before: Sequence[float], expected: Sequence[float]
) -> bool:
    """Whether a server's answers are the same to the bit though those of the weights are not: it went on with
    the old ones, however near to the new ones they are."""
    count = len(before.scores) - 1  # the last one is of a token that it chose
    same = before.scores[:count] == after.scores[:count]
    return same and list(expected_before[:count]) != list(expected[:count])
