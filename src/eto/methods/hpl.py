"""Hierarchical preference learning (HPL, arXiv 2510.03253): trajectories, steps, and groups of turns.

An expert's trajectory is cut into groups of K turns. Group G is worth r(G) = 1/M sum_j R(tau^(j)) over M
episodes that the cloned agent plays on from its end. In phase s of three, with the cloned agent as reference:

    L(s) = L_BC + L_trajectory-DPO + L_step-DPO + L_group-DPO(s)

where the groups of phase s go from short ones with a large difference to all (`credit.groups.curriculum`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from eto import steps
from eto.credit.groups import PHASES, GroupPair, curriculum, distinct_groups, group_pairs
from eto.credit.monte_carlo import cuts
from eto.protocols import Agent, Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    GuardSettings,
    MethodSettings,
    MonteCarloSettings,
    SftSettings,
)
from eto.settings.base import Conflict
from eto.settings.limits import Count, Positive, Share

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class HplSettings(MethodSettings):
    """Cloning, branches at every turn and every group, and preference training in three phases."""

    name: Literal["hpl"] = "hpl"
    """The method."""
    sft: SftSettings = SftSettings(batch_size=32)
    """Behavioural cloning of the expert. Paper: 3 epochs at 1e-5, batch 32."""
    group_turns: Count = 3
    """K, the turns of a group. Paper: 3 for groups of fixed length; by default GPT-4o cuts them."""
    group_samples: Count = 3
    """Groups that the agent writes at each place. Paper's code: 3 distinct ones."""
    group_temperature: Positive = 1.0
    """Sampling temperature of these groups. Paper's code: 1."""
    monte_carlo: MonteCarloSettings = MonteCarloSettings()
    """The values of steps and groups."""
    threshold: Share = 0.3
    """Values of a pair of steps or groups differ by more than this. Paper's code: 0.3."""
    least_value: Annotated[float, Field(ge=0, le=1)] = 0.8
    """An expert's group that is worth less gives no pair. Paper's code: 0.8."""
    contrast: ContrastSettings = ContrastSettings(margin_turns=None, min_gap=0.01)
    """Pairs of outcomes; `min_gap` holds for those of steps too. Paper's code: 0.01, no margin."""
    dpo: DpoSettings = DpoSettings(epochs=1, learning_rate=3e-6, beta=0.3, sft_weight=1.0)
    """Preference training, the same in each phase. Paper: 1 epoch at 3e-6 (ALFWorld) or 1e-6, batch 32,
    beta 0.3."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    @model_validator(mode="after")
    def _groups_have_weight(self) -> Self:
        if self.contrast.gap_weights:
            raise Conflict(
                "{place}contrast.gap_weights gives groups of equal outcome no weight; set it to false"
            )
        return self

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def without_effect(self) -> Mapping[str, str]:
        several = (f"contrast.{name}" for name in ContrastSettings.of_several)
        idle = dict.fromkeys(several, "take method eto, which plays a task several times")
        return idle | {"guard.ship_only_if_better": "leave it to the dev tasks: the best of all agents ships"}


def train(lab: Lab, settings: HplSettings) -> Outcome:
    """Both stages of the paper: pairs of three sizes from one exploration, then the curriculum."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    agent, rewards = base, {base: steps.evaluate(lab, base)}
    found = steps.branch(lab, cuts(lab.experts), stage="branch-steps", seed=1)
    whole = [each.episode for each in found if each.at == 0]
    step_wise, values = steps.step_wise(
        lab,
        found,
        {},
        settings.monte_carlo,
        settings.contrast,
        settings.threshold,
        stage="values-steps",
        scorer=base,
        seed=2,
    )
    groups = group_wise(lab, settings, base, values)
    for phase, current in enumerate(curriculum(groups), start=1):
        pairs, why = steps.contrast(
            lab, lab.experts, whole, settings.contrast, settings.dpo, phase, further=[*step_wise, *current]
        )
        if not pairs:
            lab.watch.say(f"phase {phase} gave no pairs: {why}")
            continue
        agent, result = steps.prefer(
            lab,
            pairs,
            settings.dpo,
            contrast=settings.contrast,
            guard=settings.guard,
            agent=f"hpl-{phase}",
            start_reward=rewards[agent],
            iteration=phase,
            reference=base,
        )
        rewards[agent] = result.dev_reward
    note = steps.lacks(lab, settings, whole) if agent == base else ""
    return steps.select(lab, rewards, note)


def group_wise(
    lab: Lab, settings: HplSettings, base: Agent, values: Mapping[tuple[str, int], float]
) -> list[GroupPair]:
    """Pairs of the expert's groups and those that `base` writes in their place. values: known ones of the
    expert's states, by task id and turns."""
    found = steps.branch(
        lab,
        cuts(lab.experts, every=settings.group_turns),
        stage="branch-groups",
        temperature=settings.group_temperature,
        samples=settings.group_samples,
        seed=3,
    )
    valued, _ = steps.valued(
        lab,
        distinct_groups(found, settings.group_turns),
        values,
        settings.monte_carlo,
        stage="values-groups",
        scorer=base,
        turns=settings.group_turns,
        seed=4,
    )
    return group_pairs(valued, settings.group_turns, settings.threshold, settings.least_value)


def stages(settings: HplSettings) -> list[Stage]:
    """`train` as stages."""
    grouping = ("group_turns", "group_samples", "group_temperature")
    declared = [
        Stage.clone("sft", "sft"),
        Stage.dev("sft"),
        Stage.continued("branch-steps"),
        Stage.continued("values-steps", "monte_carlo", "contrast.min_gap"),
        Stage.continued("branch-groups", *grouping),
        Stage.continued("values-groups"),
    ]
    for phase in range(1, PHASES + 1):
        declared += [
            Stage.contrast(phase, "threshold", "least_value", "contrast"),
            Stage.prefer(f"hpl-{phase}", phase, "dpo", "guard"),
        ]
    return declared


METHOD = Method(
    name="hpl",
    summary="contrast groups of turns, from easy to hard",
    settings=HplSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.EXPERTS, Need.REPLAY, Need.SPREAD],
)
