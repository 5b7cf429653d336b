"""Experimental. Offline critic with per-turn advantages (after Q-Evolve, arXiv 2606.07367).

Over expert and own episodes, without new ones: a critic V learns an expectile of what follows a turn (IQL,
arXiv 2110.06169); a turn has the advantage A_t = delta_t + gamma lambda A_(t+1), delta_t = r_t +
gamma V_(t+1) - V_t; and PPO's clipped loss updates the policy, down as well as up. Read second-hand; no
official code was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
from eto.settings.base import Most
from eto.settings.critic import ClippedUpdateSettings, CriticSettings
from eto.settings.limits import Count

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class OfflineCriticSettings(MethodSettings):
    """Cloning, own episodes, and rounds of a critic and an update by it."""

    name: Literal["offline_critic"] = "offline_critic"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 2
    """Rounds. Paper: 2 to 3."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings(samples=3, temperature=1.0)
    """Own episodes, before the first round alone. Paper: 3 a task."""
    critic: CriticSettings = CriticSettings()
    """Learning values."""
    update: ClippedUpdateSettings = ClippedUpdateSettings()
    """Updating the policy."""


def train(lab: Lab, settings: OfflineCriticSettings) -> Outcome:
    """Clone, play once, then criticise and update over the same episodes; repeat."""
    acting = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {acting: steps.evaluate(lab, acting)}
    explored = steps.explore(lab, settings.explore)
    if note := steps.lacks(lab, settings, explored, by_task=False):
        return steps.select(lab, rewards, note)
    episodes = [*lab.experts, *explored]
    for iteration in range(1, settings.iterations + 1):
        gained = steps.advantages(
            lab,
            episodes,
            settings.critic,
            acting=acting,
            decay=settings.update.decay,
            stage=f"critic-{iteration}",
        )
        acting = steps.update(
            lab, episodes, gained, settings.update, acting=acting, agent=f"updated-{iteration}"
        )
        rewards[acting] = steps.evaluate(lab, acting)
    return steps.select(lab, rewards)


def stages(settings: OfflineCriticSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft"), Stage.explore(1, "explore")]
    for n in range(1, settings.iterations + 1):
        declared += [
            Stage(f"critic-{n}", ("critic", "update.decay"), iteration=n),
            Stage(f"updated-{n}", ("update",), f"updated-{n}", iteration=n),
            Stage.dev(f"updated-{n}"),
        ]
    return declared


METHOD = Method(
    name="offline_critic",
    summary="experimental: per-turn advantages over stored episodes",
    settings=OfflineCriticSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.SPREAD],
)
