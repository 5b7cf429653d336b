"""When preference training must stop: it can ruin an agent within tens of steps."""

from __future__ import annotations

from collections.abc import Mapping

from eto.settings import GuardSettings


def exceeded(figures: Mapping[str, float], bounds: GuardSettings) -> str | None:
    """The bound that a step's `figures` exceed, in words; None where there is none.

    Without pairs, what is desirable counts as chosen, what is not as rejected; a step may have one of them
    alone. A step of rehearsal exceeds none.
    """
    margin = figures.get("margin", 0.0)
    chosen = figures.get("chosen_drift", figures.get("desirable_drift", 0.0))
    rejected = figures.get("rejected_drift", figures.get("undesirable_drift", 0.0))
    drift = max(abs(chosen), abs(rejected))
    if bounds.max_margin is not None and margin > bounds.max_margin:
        return f"margin {margin:.2f} above max_margin {bounds.max_margin:g}"
    if bounds.max_chosen_drop is not None and -chosen > bounds.max_chosen_drop:
        return f"chosen lost {-chosen:.2f} nats, max_chosen_drop is {bounds.max_chosen_drop:g}"
    per_token = figures.get("chosen_drift_per_token", figures.get("desirable_drift_per_token", 0.0))
    bound = bounds.max_chosen_drop_per_token
    if bound is not None and -per_token > bound:
        return f"chosen lost {-per_token:.2f} nats a token, max_chosen_drop_per_token is {bound:g}"
    if bounds.max_drift is not None and drift > bounds.max_drift:
        return f"log-ratio moved {drift:.2f} nats, max_drift is {bounds.max_drift:g}"
    return None


def misbehaves(figures: Mapping[str, float], bounds: GuardSettings) -> str | None:
    """The bound that the actions of a dev check exceed, in words; None where there is none.

    `figures`: those of `eto.evaluation.behaviour.Behaviour`; empty where no action was taken.
    """
    if not figures:
        return None
    for name, words in _ACTIONS.items():
        most = getattr(bounds, f"max_{name}")
        if most is not None and figures[name] > most:
            return f"{figures[name]:.0%} of the actions {words}, max_{name} is {most:g}"
    least, entropy = bounds.min_action_entropy, figures["action_entropy"]
    if least is not None and entropy < least:
        return f"the actions' entropy is {entropy:.2f} nats, min_action_entropy is {least:g}"
    return None


_ACTIONS = {
    "repeated": "repeat an earlier one of their episode",
    "malformed": "are malformed",
    "verb_share": "begin with the same word",
}
