"""When preference training must stop: it can ruin an agent within tens of steps."""

from __future__ import annotations

from collections.abc import Mapping

from eto.settings import GuardSettings


def exceeded(figures: Mapping[str, float], bounds: GuardSettings) -> str | None:
    """The bound that a step's `figures` exceed, in words; None where there is none.

    A step without pairs, all rehearsal, exceeds none.
    """
    if "margin" not in figures:
        return None
    margin, chosen = figures["margin"], figures["chosen_drift"]
    drift = max(abs(chosen), abs(figures["rejected_drift"]))
    if bounds.max_margin is not None and margin > bounds.max_margin:
        return f"margin {margin:.2f} above max_margin {bounds.max_margin:g}"
    if bounds.max_chosen_drop is not None and -chosen > bounds.max_chosen_drop:
        return f"chosen lost {-chosen:.2f} nats, max_chosen_drop is {bounds.max_chosen_drop:g}"
    per_token, bound = figures.get("chosen_drift_per_token", 0.0), bounds.max_chosen_drop_per_token
    if bound is not None and -per_token > bound:
        return f"chosen lost {-per_token:.2f} nats a token, max_chosen_drop_per_token is {bound:g}"
    if bounds.max_drift is not None and drift > bounds.max_drift:
        return f"log-ratio moved {drift:.2f} nats, max_drift is {bounds.max_drift:g}"
    return None
