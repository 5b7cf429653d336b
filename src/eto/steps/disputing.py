"""Disputing: estimates of actions by an ensemble, and exploring where these differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eto.credit.ensemble import Ensemble, fit_ensemble, most_disputed
from eto.data.arrays import mark_of, read_arrays, write_arrays
from eto.data.hashed_words import action_vector, action_vectors
from eto.errors import InputError
from eto.experiment.lab import Lab
from eto.settings.ensemble import EnsembleSettings
from eto.types import Message, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Disputed:
    """Takes of several actions the one on which an ensemble's estimates differ most."""

    ensemble: Ensemble
    candidates: int

    def pick(self, messages: Sequence[Message], turns: Sequence[Turn], actions: Sequence[str]) -> int:
        """The index of the action with the largest deviation; the first of equals."""
        before = turns[-1].observation if turns else messages[-1].content
        points = np.array([action_vector(before, action) for action in actions])
        return most_disputed(self.ensemble.estimates(points))


def estimate(
    lab: Lab, episodes: Sequence[Trajectory], settings: EnsembleSettings, iteration: int = 1
) -> Ensemble:
    """Stage `ensemble-<iteration>`: estimates of the reward of each episode from each of its turns."""
    mark = mark_of(episodes)
    with lab.run.stage(f"ensemble-{iteration}") as stage:
        path = stage.directory / "ensemble.npz"
        if not stage.done:
            used = [each for each in episodes if each.turns and not each.failed]
            if not used:
                hint = "play more tasks, or raise model.max_context"
                raise InputError("no episode has a turn to estimate", where=f"stage {stage.name}", hint=hint)
            lengths = [len(each.turns) for each in used]
            made = fit_ensemble(
                np.concatenate([action_vectors(each) for each in used]),
                np.repeat([each.reward for each in used], lengths),
                np.repeat(np.arange(len(used)), lengths).tolist(),
                heads=settings.heads,
                ridge=settings.ridge,
                prior=settings.prior,
                seed=lab.recipe.seed * 1000 + iteration,
            )
            write_arrays(path, {"weights": made.weights, "mean": np.array(made.mean)}, mark)
            stage.note(episodes=len(used), turns=sum(lengths))
        kept = read_arrays(path, mark)
    return Ensemble(kept["weights"], float(kept["mean"]))
