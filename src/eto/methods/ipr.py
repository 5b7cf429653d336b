"""Iterative step-level process refinement (IPR, arXiv 2406.11176): preferences over steps and outcomes.

The value of a step is the average outcome of N episodes that the first cloned agent, which stays as it is,
plays on from it (section 3.2):

    r_s(s_t, a_t) = 1/N sum_i r_o(u, e^(i)),   e^(i) ~ pi_base(. | e_t);   at the last step r_o itself

Where the agent, set after each step of the expert, does worse than the expert by value and by outcome, both
ways on are a pair (section 3.3); loss, with the base agent as reference:

    L = L_outcome-DPO + L_step-DPO - E log pi(chosen)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from eto import steps
from eto.credit.contrast import accumulated
from eto.credit.monte_carlo import cuts
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    GuardSettings,
    MethodSettings,
    MonteCarloSettings,
    SftSettings,
)
from eto.settings.base import Most
from eto.settings.limits import Count, Share
from eto.types import Pair

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class IprSettings(MethodSettings):
    """Cloning, then rounds of branching off from the expert, valuing steps, and preference training."""

    name: Literal["ipr"] = "ipr"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 4
    """Rounds. Paper: up to 4; its script: 6."""
    sft: SftSettings = SftSettings(learning_rate=2e-5, batch_size=48)
    """Behavioural cloning of the expert. Paper's code: 3 epochs at 2e-5, batch 48."""
    monte_carlo: MonteCarloSettings = MonteCarloSettings()
    """The values of steps."""
    threshold: Share = 0.01
    """Values of a pair's steps differ by more than this. Paper: 0.5 (ALFWorld), 0.01 (WebShop), 0.1 (SQL)."""
    contrast: ContrastSettings = ContrastSettings(margin_turns=None, min_gap=0.01)
    """Pairs of outcomes; `min_gap` holds for those of steps too. Paper's code: 0.01, no margin."""
    accumulate: bool = False
    """Whether a round also trains on the pairs of the rounds before."""
    dpo: DpoSettings = DpoSettings(epochs=3, learning_rate=3e-6, batch_size=48, sft_weight=1.0, anchor="sum")
    """Preference training. Paper's code: 3 epochs at 3e-6, batch 48, beta 0.1, weight 1 of the
    chosen's sum."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training."""

    def needs_dev(self) -> str:
        if self.guard.dev_every_epoch:
            return "guard.dev_every_epoch"
        return "guard.ship_only_if_better" if self.guard.ship_only_if_better else ""

    def without_effect(self) -> Mapping[str, str]:
        several = (f"contrast.{name}" for name in ContrastSettings.of_several)
        idle = dict.fromkeys(several, "take method eto, which plays a task several times")
        return idle if self.iterations > 1 else idle | {"accumulate": "set method.iterations above 1"}


def train(lab: Lab, settings: IprSettings) -> Outcome:
    """Algorithm 1 of the paper. The best checkpoint on dev continues, as in `eto`."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    agents, shipped, reward = [base], base.name, steps.evaluate(lab, base)
    reason, values, trained_on = "", dict[tuple[str, int], float](), list[Pair]()
    for iteration in range(1, settings.iterations + 1):
        found = steps.branch(lab, cuts(lab.experts), stage=f"branch-{iteration}", seed=iteration)
        step_wise, values = steps.step_wise(
            lab,
            found,
            values,
            settings.monte_carlo,
            settings.contrast,
            settings.threshold,
            stage=f"values-{iteration}",
            scorer=base,
            seed=iteration,
        )
        whole = [each.episode for each in found if each.at == 0]
        pairs, why = steps.contrast(
            lab, lab.experts, whole, settings.contrast, settings.dpo, iteration, further=step_wise
        )
        if not pairs:
            note = f"round {iteration} gave no pairs: {why}; {shipped} is the result"
            if lacks := steps.lacks(lab, settings, whole):
                note += f"; {lacks}"
            return Outcome(tuple(agents), shipped, note, note)
        trained_on = accumulated(trained_on, pairs) if settings.accumulate else pairs
        agent, result = steps.prefer(
            lab,
            trained_on,
            settings.dpo,
            contrast=settings.contrast,
            guard=settings.guard,
            agent=f"ipr-{iteration}",
            start_reward=reward,
            iteration=iteration,
            reference=base,
        )
        agents.append(agent)
        if not result.shipped:
            note = f"{agent.name} does not ship: {result.reason}"
            return Outcome(tuple(agents), shipped, note, note)
        shipped, reward, reason = agent.name, result.dev_reward, result.reason
    return Outcome(tuple(agents), shipped, reason)


def stages(settings: IprSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        added = ("accumulate",) if n > 1 else ()
        declared += [
            Stage.continued(f"branch-{n}", iteration=n),
            Stage.continued(f"values-{n}", "monte_carlo", "contrast.min_gap", iteration=n),
            Stage.contrast(n, "threshold", "contrast"),
            Stage.prefer(f"ipr-{n}", n, "dpo", "guard", *added),
        ]
    return declared


METHOD = Method(
    name="ipr",
    summary="contrast steps by their Monte-Carlo value",
    settings=IprSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.EXPERTS, Need.REPLAY, Need.SPREAD],
)
