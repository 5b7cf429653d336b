"""OPARL (arXiv 2312.15965): an optimistic explorer gathers episodes, a pessimistic executor is shipped.

In the paper the executor maximises min_k Q_k over K critics and the explorer max_k Q_k; of N actions of the
explorer the one with the largest std_k Q_k is played. Within ETO's rounds, without training the explorer:

    clone;  repeat: play greedily;  fit Q_1..Q_K to the rewards of all episodes;
    play again, of N sampled actions argmax_a std_k Q_k(s, a);  pairs by reward;  DPO
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
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
from eto.settings.limits import Count
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class OparlSettings(MethodSettings):
    """Cloning, then rounds of an executor's greedy episodes and of an explorer's."""

    name: Literal["oparl"] = "oparl"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 1
    """Rounds of playing and preference training."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings()
    """The executor's episodes: one of each task, greedy."""
    explorer: ExplorerSettings = ExplorerSettings()
    """The explorer's episodes: one of each task, by the actions that are most disputed."""
    ensemble: EnsembleSettings = EnsembleSettings()
    """Estimates of actions."""
    contrast: ContrastSettings = ContrastSettings(agent_pairs=True)
    """Pairs by reward, of both agents' episodes."""
    dpo: DpoSettings = DpoSettings()
    """Preference training on the pairs."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def without_effect(self) -> Mapping[str, str]:
        return {"guard.ship_only_if_better": "leave it to the dev tasks: the best of all agents ships"}

    @model_validator(mode="after")
    def _actions_to_dispute(self) -> Self:
        if self.explorer.candidates == 1:
            raise Conflict("one action is no choice: set {place}explorer.candidates above 1")
        return self


def train(lab: Lab, settings: OparlSettings) -> Outcome:
    """Clone, then rounds in which half of the episodes are greedy and half go where estimates differ."""
    executor = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {executor: steps.evaluate(lab, executor)}
    known = list(lab.experts)
    for iteration in range(1, settings.iterations + 1):
        first, second = explorations(iteration)
        exploited = steps.explore(lab, settings.explore, first)
        known += exploited
        ensemble = steps.estimate(lab, known, settings.ensemble, iteration)
        choice = steps.Disputed(ensemble, settings.explorer.candidates)
        explored = steps.explore(lab, settings.explorer, second, choice)
        known += explored
        own = [*exploited, *numbered_from(settings.explore.samples, explored)]
        if note := steps.lacks(lab, settings, own):
            return steps.select(lab, rewards, note)
        pairs, _ = steps.contrast(lab, lab.experts, own, settings.contrast, settings.dpo, iteration)
        if not pairs:
            lab.watch.say(f"round {iteration} gave no pairs")
            continue
        executor, result = steps.prefer(
            lab,
            pairs,
            settings.dpo,
            contrast=settings.contrast,
            guard=settings.guard,
            agent=f"oparl-{iteration}",
            start_reward=rewards[executor],
            iteration=iteration,
        )
        rewards[executor] = result.dev_reward
    return steps.select(lab, rewards)


def explorations(iteration: int) -> tuple[int, int]:
    """Numbers, from 1, of a round's exploration stages: the executor's and the explorer's."""
    return 2 * iteration - 1, 2 * iteration


def numbered_from(first: int, episodes: Iterable[Trajectory]) -> list[Trajectory]:
    """Episodes as further samples of their tasks, after `first` others."""
    return [replace(each, sample=first + each.sample) for each in episodes]


def stages(settings: OparlSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        first, second = explorations(n)
        declared += [
            Stage.explore(first, "explore"),
            Stage(f"ensemble-{n}", ("ensemble",), iteration=n),
            replace(Stage.explore(second, "explorer"), common=False),
            Stage.contrast(n, "contrast"),
            Stage.prefer(f"oparl-{n}", n, "dpo", "guard"),
        ]
    return declared


METHOD = Method(
    name="oparl",
    summary="an explorer that takes disputed actions, and the executor that ships",
    settings=OparlSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.SPREAD],
)
