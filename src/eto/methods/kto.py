"""KTO (arXiv 2402.01306) on own episodes: successes are desirable, failures not; no pair is needed.

L = w_D (1 - sigma(beta (r - z)))  or  w_U (1 - sigma(beta (z - r))),   r = log pi(e|u) - log pi_ref(e|u)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, GuardSettings, MethodSettings, SftSettings
from eto.settings.training import KtoSettings as KtoTraining

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class KtoSettings(MethodSettings):
    """Cloning, own episodes, and training on successes and failures without pairs."""

    name: Literal["kto"] = "kto"
    """The method."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert; the cloned agent is the reference."""
    explore: ExploreSettings = ExploreSettings(samples=4, temperature=1.0)
    """The agent's own episodes."""
    least_reward: Annotated[float, Field(gt=0, le=1)] = 1.0
    """An episode of at least this reward is desirable, the expert's trajectories always."""
    kto: KtoTraining = KtoTraining()
    """The training."""
    guard: GuardSettings = GuardSettings(max_margin=None, max_chosen_drop=None, dev_every_epoch=False)
    """Bounds on the training, none by default: chosen is what is desirable, rejected what is not. The best of
    all agents on dev ships. Paper: none."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def without_effect(self) -> Mapping[str, str]:
        return {"guard.ship_only_if_better": "leave it to the dev tasks: the best of all agents ships"}


def train(lab: Lab, settings: KtoSettings) -> Outcome:
    """Clone, explore, and train on what was won and what was lost."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {base: steps.evaluate(lab, base)}
    explored = steps.explore(lab, settings.explore)
    if note := steps.lacks(lab, settings, explored, least_reward=settings.least_reward, by_task=False):
        return steps.select(lab, rewards, note)
    won = [episode for episode in explored if episode.reward >= settings.least_reward]
    lost = [episode for episode in explored if episode.reward < settings.least_reward]
    agent, result = steps.separate(
        lab,
        [*lab.experts, *won],
        lost,
        settings.kto,
        guard=settings.guard,
        agent="kto",
        start_reward=rewards[base],
    )
    rewards[agent] = result.dev_reward
    return steps.select(lab, rewards, f"kto: {result.reason}" if result.fired else "")


def stages(settings: KtoSettings) -> list[Stage]:
    """`train` as stages."""
    return [
        Stage.clone("sft", "sft"),
        Stage.dev("sft"),
        Stage.explore(1, "explore"),
        Stage.separate("kto", "least_reward", "kto", "guard"),
    ]


METHOD = Method(
    name="kto",
    summary="successes and failures without pairs",
    settings=KtoSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.SPREAD, Need.EXPERTS | Need.REWARD],
)
