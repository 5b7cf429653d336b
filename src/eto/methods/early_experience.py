"""Early Experience, implicit world modelling (arXiv 2510.08558): what own actions lead to, then cloning.

In each state s of the experts the agent tries K actions a of its own, and the environment answers s':

    L_IWM = - sum_(s, a, s') log p(s' | s, a),     then     L_IL = - sum_(s, a_expert) log pi(a_expert | s)

No reward is used. Read second-hand; no official code was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from eto import steps
from eto.credit.monte_carlo import cuts
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings

if TYPE_CHECKING:
    from eto.experiment.lab import Lab

BRANCHES, WORLD, AGENT = "branch-own", "world", "early-experience"


class EarlyExperienceSettings(MethodSettings):
    """Cloning, own actions in the experts' states, what they lead to, and cloning after that."""

    name: Literal["early_experience"] = "early_experience"
    """The method."""
    sft: SftSettings = SftSettings()
    """Cloning, of the agent that tries actions and of the one that knows what they lead to."""
    explore: ExploreSettings = ExploreSettings(samples=3, temperature=1.0)
    """K own actions in each state. Paper: gains grow with K; up to 8 there."""
    world: SftSettings = SftSettings(epochs=1)
    """Learning the observations. Paper: one epoch."""

    def without_effect(self) -> Mapping[str, str]:
        idle = ("world.observation_weight", "world.zero_reward")
        return dict.fromkeys(idle, "set it in method.sft: only observations are learnt here, of any reward")


def train(lab: Lab, settings: EarlyExperienceSettings) -> Outcome:
    """Try own actions in the experts' states, learn what the environment answers, then clone."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {base: steps.evaluate(lab, base)}
    found = steps.branch(
        lab,
        cuts(lab.cloned),
        stage=BRANCHES,
        temperature=settings.explore.temperature,
        samples=settings.explore.samples,
        own_turns=1,
    )
    steps.foresee(lab, [each.episode for each in found], settings.world, agent=WORLD)
    agent = steps.clone(lab, lab.cloned, settings.sft, agent=AGENT)
    rewards[agent] = steps.evaluate(lab, agent)
    return steps.select(lab, rewards)


def stages(settings: EarlyExperienceSettings) -> list[Stage]:
    """`train` as stages."""
    return [
        Stage.clone("sft", "sft"),
        Stage.dev("sft"),
        Stage.continued(BRANCHES, "explore"),
        Stage.clone(WORLD, "world"),
        Stage.clone(AGENT),
        Stage.dev(AGENT),
    ]


METHOD = Method(
    name="early_experience",
    summary="learn what own actions lead to, then clone",
    settings=EarlyExperienceSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.EXPERTS, Need.REPLAY],
)
