"""PPO (arXiv 1707.06347) as the baseline of the ETO paper: the reward falls on an episode's last token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
from eto.settings.base import Most
from eto.settings.limits import Count
from eto.settings.policy_gradient import PpoUpdateSettings

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class PpoSettings(MethodSettings):
    """Cloning, then rounds of own episodes and PPO on them."""

    name: Literal["ppo"] = "ppo"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 3
    """Rounds of exploring and updating."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert; the cloned agent is the reference of the penalty."""
    explore: ExploreSettings = ExploreSettings(samples=1, temperature=1.0)
    """The agent's own episodes, at the temperature at which its probabilities are its own."""
    ppo: PpoUpdateSettings = PpoUpdateSettings()
    """The update on a round's episodes."""


def train(lab: Lab, settings: PpoSettings) -> Outcome:
    """Act with the policy, credit each token with its advantage, improve within the clip; repeat."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    rewards, acting = {base: steps.evaluate(lab, base)}, base
    for iteration in range(1, settings.iterations + 1):
        episodes = steps.explore(lab, settings.explore, iteration)
        if iteration == 1 and (note := steps.lacks(lab, settings, episodes, by_task=False)):
            return steps.select(lab, rewards, note)
        acting = steps.improve(
            lab,
            episodes,
            settings.ppo,
            base=base,
            acting=acting,
            agent=f"ppo-{iteration}",
        )
        rewards[acting] = steps.evaluate(lab, acting)
    return steps.select(lab, rewards)


def stages(settings: PpoSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        declared += [
            Stage.explore(n, "explore"),
            Stage(f"ppo-{n}", ("ppo",), f"ppo-{n}", iteration=n),
            Stage.dev(f"ppo-{n}"),
        ]
    return declared


METHOD = Method(
    name="ppo",
    summary="policy gradients on the agent's own episodes",
    settings=PpoSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.OWN_SPREAD],
)
