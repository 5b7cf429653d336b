"""Disputing: an ensemble of estimates, and an explorer that takes the action on which they differ most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eto.credit.ensemble import Ensemble, Floats, fit_ensemble, most_disputed
from eto.credit.monte_carlo import Cut
from eto.data.arrays import mark_of, read_arrays, write_arrays
from eto.data.hashed_words import action_vector, action_vectors, read_before
from eto.experiment.lab import Lab
from eto.settings.ensemble import EnsembleSettings
from eto.types import Message, Trajectory, Turn


def estimate(
    lab: Lab, known: Sequence[Trajectory], settings: EnsembleSettings, iteration: int = 1
) -> Ensemble:
    """Stage `ensemble-<iteration>`: K estimates of the reward of the episodes `known`, from each of their
    turns. Raises `InputError` where none has a turn."""
    episodes = [each for each in known if each.turns and not each.failed]
    mark = mark_of(episodes, settings.model_dump_json())
    with lab.run.stage(f"ensemble-{iteration}") as stage:
        path = stage.directory / "ensemble.npz"
        if not stage.done:
            owners = [number for number, each in enumerate(episodes) for _ in each.turns]
            made = fit_ensemble(
                np.array([row for each in episodes for row in action_vectors(each)]),
                np.array([episodes[owner].reward for owner in owners]),
                owners,
                heads=settings.heads,
                ridge=settings.ridge,
                prior=settings.prior,
                seed=lab.recipe.seed * 1000 + iteration,
            )
            write_arrays(path, {"weights": made.weights, "mean": np.array(made.mean)}, mark)
            stage.note(episodes=len(episodes), turns=len(owners))
    kept = read_arrays(path, mark)
    return Ensemble(kept["weights"], float(kept["mean"]))


class Disputed:
    """Takes, of the actions sampled in a state, the one on which an ensemble disagrees most."""

    def __init__(self, ensemble: Ensemble, candidates: int) -> None:
        self.candidates = candidates
        self.unused_tokens = 0
        """Tokens of actions that were not taken."""
        self._ensemble = ensemble

    def pick(self, messages: Sequence[Message], turns: Sequence[Turn], actions: Sequence[Turn]) -> int:
        """Number of the action to take; of actions on which it disagrees alike the first."""
        before = read_before(messages, turns)
        points = np.array([action_vector(before, each.action) for each in actions])
        taken = most_disputed(self._ensemble.estimates(points))
        others = (each for number, each in enumerate(actions) if number != taken)
        self.unused_tokens += sum(len(each.action_ids or ()) for each in others)
        return taken


def estimates_in(ensemble: Ensemble, state: Cut, actions: Sequence[str]) -> Floats:
    """`[K, actions]`: what the ensemble makes of actions in a state."""
    before = read_before(state.trajectory.messages, state.trajectory.turns[: state.turns])
    return ensemble.estimates(np.array([action_vector(before, action) for action in actions]))
