"""OPARL (arXiv 2312.15965): an optimistic explorer and a pessimistic executor, by an ensemble of estimates.

The paper trains two actors against K critics, the explorer by max_k Q_k and the executor by min_k Q_k, resets
the explorer to the executor now and then, and evaluates the executor alone. Here critics are K estimates of
an episode's reward, and actors are agents:

    clone;  repeat: the executor plays greedily;  fit K estimates on all episodes so far
        the explorer plays: of n sampled actions it takes the one on which the K differ most
        pairs by reward as in ETO -> executor

That trains no explorer: it has the executor's weights. With `adapters` both are adapters over one model:

        in states of their episodes n actions are sampled;  best against worst by min_k -> executor,
        by max_k -> explorer;  every R rounds explorer <- executor
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator

from eto import steps
from eto.credit.ensemble import Ensemble, opposed, optimistic, pessimistic, spread
from eto.protocols import Agent, Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    ExploreSettings,
    GuardSettings,
    MethodSettings,
    SftSettings,
)
from eto.settings.base import Conflict, Most
from eto.settings.ensemble import EnsembleSettings, ExplorerSettings
from eto.settings.limits import Count, NotNegative
from eto.types import Pair, Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class OparlSettings(MethodSettings):
    """Cloning, then rounds in which an explorer plays beside the executor."""

    name: Literal["oparl"] = "oparl"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 2
    """Rounds of playing, estimating and preference training."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    executor: ExploreSettings = ExploreSettings()
    """The executor's own episodes."""
    explorer: ExplorerSettings = ExplorerSettings(samples=1, temperature=1.0)
    """The explorer's."""
    ensemble: EnsembleSettings = EnsembleSettings()
    """Estimates of what actions are worth."""
    adapters: bool = False
    """Whether the explorer is trained, as an adapter of its own (`model.lora`) beside the executor's."""
    reset_every: Annotated[Count, Most(1000)] = 1
    """Rounds after which the explorer begins again as the executor. Paper: 20,000 steps of a million."""
    states: Annotated[Count, Most(10_000)] = 2
    """States of each task and round in which actions are compared by their estimates."""
    threshold: NotNegative = 0.05
    """Estimates of two actions that are paired differ by more than this."""
    contrast: ContrastSettings = ContrastSettings(agent_pairs=True, turns="window", window=3, repeats=False)
    """Pairs by reward; which turns carry the contrast."""
    dpo: DpoSettings = DpoSettings()
    """Preference training, of either."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best executor on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def needs_adapters(self) -> str:
        return "adapters" if self.adapters else ""

    def without_effect(self) -> Mapping[str, str]:
        idle = {"guard.ship_only_if_better": "leave it to the dev tasks: the best executor ships"}
        if not self.adapters:
            names = ("reset_every", "states", "threshold", "ensemble.deviations")
            idle |= dict.fromkeys(names, "set method.adapters to true")
        return idle

    @model_validator(mode="after")
    def _actions_have_weight(self) -> Self:
        if self.adapters and self.contrast.gap_weights:
            raise Conflict(
                "{place}contrast.gap_weights gives pairs of equal reward no weight: set it to false"
            )
        return self


def train(lab: Lab, settings: OparlSettings) -> Outcome:
    """Clone, then let an explorer show what the executor would not have tried."""
    executor = steps.clone(lab, lab.cloned, settings.sft)
    explorer, rewards = executor, {executor: steps.evaluate(lab, executor)}
    known: list[Trajectory] = []
    for n in range(1, settings.iterations + 1):
        _become(lab, executor)
        played = steps.explore(lab, settings.executor, 2 * n - 1)
        known += played
        ensemble = steps.estimate(lab, known, settings.ensemble, n)
        _become(lab, explorer)
        choice = steps.Disputed(ensemble, settings.explorer.candidates)
        tried = steps.explore(lab, settings.explorer, 2 * n, choice)
        known += tried
        own = [*played, *(replace(each, sample=each.sample + settings.executor.samples) for each in tried)]
        cautious, bold = rankings(lab, own, ensemble, settings, n) if settings.adapters else ([], [])
        pairs, _ = steps.contrast(
            lab, lab.experts, own, settings.contrast, settings.dpo, 2 * n - 1, further=cautious
        )
        if not pairs:
            why = steps.lacks(lab, settings, own) or "nothing to contrast lies within the context"
            return steps.select(lab, rewards, f"round {n} gave no pairs: {why}")
        _become(lab, executor)
        before = rewards[executor]
        executor, result = _prefer(lab, pairs, settings, f"oparl-{n}", before, 2 * n - 1)
        rewards[executor] = result.dev_reward
        if not settings.adapters or n % settings.reset_every == 0:
            explorer = executor
        elif bold:
            _become(lab, explorer)
            explorer, _ = _prefer(lab, bold, settings, f"explorer-{n}", before, 2 * n)
    return steps.select(lab, rewards)


def rankings(
    lab: Lab, own: Sequence[Trajectory], ensemble: Ensemble, settings: OparlSettings, iteration: int
) -> tuple[list[Pair], list[Pair]]:
    """Stage `branch-<iteration>`: actions sampled in states of `own`, as pairs by their lowest estimates and
    by their highest."""
    found = steps.branch(
        lab,
        spread(own, settings.states),
        stage=f"branch-{iteration}",
        temperature=settings.explorer.temperature,
        samples=settings.explorer.candidates,
        seed=500 + iteration,
        own_turns=1,
    )
    estimates, bound = partial(steps.estimates_in, ensemble), settings.ensemble.deviations
    cautious, bold = (
        opposed(found, estimates, partial(value, deviations=bound), settings.threshold)
        for value in (pessimistic, optimistic)
    )
    return cautious, bold


def _prefer(
    lab: Lab, pairs: Sequence[Pair], settings: OparlSettings, agent: str, start: float, iteration: int
) -> tuple[Agent, steps.Round]:
    return steps.prefer(
        lab,
        pairs,
        settings.dpo,
        contrast=settings.contrast,
        guard=settings.guard,
        agent=agent,
        start_reward=start,
        iteration=iteration,
    )


def _become(lab: Lab, agent: Agent) -> None:
    if lab.current != agent:
        lab.become(agent)


def stages(settings: OparlSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        declared += [
            Stage.explore(2 * n - 1, "executor"),
            Stage(
                f"ensemble-{n}",
                tuple(f"ensemble.{name}" for name in ("heads", "ridge", "prior")),
                iteration=n,
            ),
            # Common only where the agent made last plays, and takes the action that it sampled.
            replace(Stage.explore(2 * n, "explorer"), common=False),
        ]
        by_estimate = ("adapters", "states", "threshold", "ensemble.deviations") if settings.adapters else ()
        if settings.adapters:
            declared.append(Stage.continued(f"branch-{n}", "states", iteration=n))
        declared += [
            Stage.contrast(2 * n - 1, "contrast", *by_estimate),
            Stage.prefer(f"oparl-{n}", 2 * n - 1, "dpo", "guard"),
        ]
        if settings.adapters and n % settings.reset_every:
            declared.append(Stage.prefer(f"explorer-{n}", 2 * n, "dpo", "guard", "reset_every"))
    return declared


METHOD = Method(
    name="oparl",
    summary="an explorer that tries what an ensemble of estimates disputes",
    settings=OparlSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.SPREAD, Need.REPLAY] if settings.adapters else [Need.SPREAD],
)
