"""KTO (arXiv 2402.01306) on own episodes: successes are desirable, failures not; no pair is needed.

L = w_D (1 - sigma(beta (r - z)))  or  w_U (1 - sigma(beta (z - r))),   r = log pi(e|u) - log pi_ref(e|u)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
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


def train(lab: Lab, settings: KtoSettings) -> Outcome:
    """Clone, explore, and train on what was won and what was lost."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {base: steps.evaluate(lab, base)}
    explored = steps.explore(lab, settings.explore)
    if note := steps.lacks(lab, settings, explored, least_reward=settings.least_reward, by_task=False):
        return steps.select(lab, rewards, note)
    won = [episode for episode in explored if episode.reward >= settings.least_reward]
    lost = [episode for episode in explored if episode.reward < settings.least_reward]
    agent = steps.separate(lab, [*lab.experts, *won], lost, settings.kto, agent="kto")
    rewards[agent] = steps.evaluate(lab, agent)
    return steps.select(lab, rewards)


def stages(settings: KtoSettings) -> list[Stage]:
    """`train` as stages."""
    return [
        Stage.clone("sft", "sft"),
        Stage.dev("sft"),
        Stage.explore(1, "explore"),
        Stage.clone("kto", "least_reward", "kto"),
        Stage.dev("kto"),
    ]


METHOD = Method(
    name="kto",
    summary="successes and failures without pairs",
    settings=KtoSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.SPREAD, Need.EXPERTS | Need.REWARD],
)
