"""Ranking: own actions of single states by the best or the worst that may become of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from eto.credit.bounds import Candidate, best_over_worst, candidates, spread_states
from eto.credit.ensemble import Floats
from eto.data.hashed_words import action_vectors
from eto.experiment.lab import Lab
from eto.protocols import Agent
from eto.settings import ContrastSettings, DpoSettings, MonteCarloSettings
from eto.settings.ensemble import ActorPairSettings, EnsembleSettings, ExplorerSettings
from eto.steps.continuing import branch, continuations
from eto.steps.contrasting import contrast
from eto.steps.disputing import estimate
from eto.types import Pair, Trajectory

Bound = Callable[[Floats, float | None], Floats]
"""`credit.ensemble.optimistic` or `pessimistic`."""


def rank(
    lab: Lab,
    settings: ActorPairSettings,
    sampling: ExplorerSettings,
    ensemble: EnsembleSettings,
    dpo: DpoSettings,
    episodes: Sequence[Trajectory],
    known: Sequence[Trajectory],
    bound: Bound,
    scorer: Agent,
    number: int = 1,
) -> list[Pair]:
    """Pairs of actions that the learner samples in states of `episodes`, by `bound` of their estimates.

    Stages: `candidates-<number>`, the actions; `ensemble-<number>`, estimates by the rewards of the episodes
    `known`, or `values-<number>`, the rewards of episodes that `scorer` plays on after each action;
    `contrast-<number>`, the pairs. Raises `InputError` where the environment cannot be brought back to a
    state by repeated actions.
    """
    found = branch(
        lab,
        spread_states(episodes, settings.states),
        stage=f"candidates-{number}",
        temperature=sampling.temperature,
        samples=sampling.candidates,
        seed=number,
        own_turns=1,
    )
    states = candidates(found)
    if settings.estimate == "heads":
        fitted = estimate(lab, known, ensemble, number)
        points = [[action_vectors(each.side)[-1:] for each in here] for here in states]
        estimates = [[fitted.estimates(each)[:, 0] for each in here] for here in points]
    else:
        estimates = _returns(lab, states, settings.monte_carlo, scorer, number)
    worth = [
        [float(bound(each[:, None], settings.deviations)[0]) if each.size else None for each in here]
        for here in estimates
    ]
    pairs = best_over_worst(states, worth, settings.least_gap)
    return contrast(lab, [], [], ContrastSettings(), dpo, number, further=pairs)[0]


def _returns(
    lab: Lab,
    states: Sequence[Sequence[Candidate]],
    settings: MonteCarloSettings,
    scorer: Agent,
    number: int,
) -> list[list[Floats]]:
    """Stage `values-<number>`: for each action of each state `[episodes]` rewards of those that went on; of
    none where none could be played. An action that ended its episode has that one's reward."""
    going_on = [each.after for here in states for each in here if each.reward is None]
    played = iter(
        continuations(lab, going_on, settings, stage=f"values-{number}", scorer=scorer, seed=500 + number)
    )
    return [
        [
            np.array([went_on.reward for went_on in next(played)] if each.reward is None else [each.reward])
            for each in here
        ]
        for here in states
    ]
