"""When preference training must stop: it can ruin an agent within tens of steps."""

from __future__ import annotations

from eto.settings import GuardSettings


class Guard:
    """Watches the figures of every step; `fired` says which bound was passed."""

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.fired: str | None = None

    def step(self, figures: dict[str, float]) -> bool:
        """True when training must stop. A step without pairs, all replay, says nothing."""
        if "margin" not in figures:
            return False
        bounds = self.settings
        margin, chosen = figures["margin"], figures["chosen_drift"]
        drift = max(abs(chosen), abs(figures["rejected_drift"]))
        if bounds.max_margin is not None and margin > bounds.max_margin:
            self.fired = f"margin {margin:.2f} above max_margin {bounds.max_margin:g}"
        elif bounds.max_chosen_drop is not None and -chosen > bounds.max_chosen_drop:
            self.fired = f"chosen lost {-chosen:.2f} nats, max_chosen_drop is {bounds.max_chosen_drop:g}"
        elif bounds.max_drift is not None and drift > bounds.max_drift:
            self.fired = f"log-ratio moved {drift:.2f} nats, max_drift is {bounds.max_drift:g}"
        return self.fired is not None
