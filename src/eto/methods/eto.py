"""ETO (arXiv 2403.02502): clone an expert, then explore, contrast, prefer, and repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from eto import steps
from eto.credit.contrast import accumulated
from eto.credit.monte_carlo import action_pairs, cuts
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    ExploreSettings,
    GuardSettings,
    MethodSettings,
    SftSettings,
)
from eto.settings.base import Most
from eto.settings.limits import Whole
from eto.types import Pair, Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


Granularity = Literal["trajectory", "step", "mixture"]


class EtoSettings(MethodSettings):
    """Cloning, then rounds of explore, contrast and preference training."""

    name: Literal["eto"] = "eto"
    """The method."""
    iterations: Annotated[Whole, Most(1000)] = 2
    """Rounds of explore, contrast and DPO; 0 only clones. Paper: 2 (ALFWorld 1)."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings()
    """Collecting the agent's own episodes."""
    contrast: ContrastSettings = ContrastSettings()
    """Making pairs of them."""
    accumulate: bool = False
    """Whether a round also trains on the pairs of the rounds before. Paper: false."""
    granularity: Granularity = "trajectory"
    """What is contrasted. trajectory: whole episodes (paper's main variant). step: single actions after each
    of the expert's prefixes, by how the agent's episode from there ends (appendix B). mixture: both."""
    dpo: DpoSettings = DpoSettings()
    """Preference training on the pairs."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training."""

    def needs_dev(self) -> str:
        if not self.iterations:
            return ""
        if self.guard.dev_every_epoch:
            return "guard.dev_every_epoch"
        return "guard.ship_only_if_better" if self.guard.ship_only_if_better else ""

    def idle_without_expert(self) -> str:
        if not self.iterations or self.granularity == "step" or self.contrast.agent_pairs:
            return ""
        return "set method.contrast.agent_pairs to true"

    def without_effect(self) -> Mapping[str, str]:
        if not self.iterations:
            idle = ("explore", "granularity", "contrast", "accumulate", "dpo", "guard")
            return dict.fromkeys(idle, "set method.iterations above 0")
        change = {} if self.iterations > 1 else {"accumulate": "set method.iterations above 1"}
        if self.granularity == "step":
            for name in ("margin_turns", "match", "agent_pairs", "per_task", "per_kind"):
                change[f"contrast.{name}"] = "set method.granularity to mixture"
        return change


def train(lab: Lab, settings: EtoSettings) -> Outcome:
    """Algorithm 1 of the paper. The best checkpoint on dev continues; a round that does not beat its own
    starting agent on dev is reported, and the search ends there."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    agents, shipped, reward = [base], base.name, steps.evaluate(lab, base)
    reason, trained_on = "no iteration was asked for", list[Pair]()
    for iteration in range(1, settings.iterations + 1):
        explored: list[Trajectory] = []
        actions: list[Pair] = []
        if settings.granularity != "step":
            explored = steps.explore(lab, settings.explore, iteration)
        if settings.granularity != "trajectory":
            actions = single_actions(lab, settings, iteration)
        pairs, why = steps.contrast(
            lab, lab.experts, explored, settings.contrast, settings.dpo, iteration, further=actions
        )
        if not pairs:
            if explored and (lacks := steps.lacks(lab, settings, explored)):
                why += f" ({lacks})"
            note = f"round {iteration} gave no pairs: {why}; {shipped} is the result"
            return Outcome(tuple(agents), shipped, note, note)
        trained_on = accumulated(trained_on, pairs) if settings.accumulate else pairs
        agent, result = steps.prefer(
            lab,
            trained_on,
            settings.dpo,
            contrast=settings.contrast,
            guard=settings.guard,
            agent=f"eto-{iteration}",
            start_reward=reward,
            iteration=iteration,
        )
        agents.append(agent)
        if not result.shipped:
            note = f"{agent.name} does not ship: {result.reason}"
            return Outcome(tuple(agents), shipped, note, note)
        shipped, reward, reason = agent.name, result.dev_reward, result.reason
    return Outcome(tuple(agents), shipped, reason)


def single_actions(lab: Lab, settings: EtoSettings, iteration: int) -> list[Pair]:
    """Pairs of single actions after each prefix of the expert's trajectories (appendix B, step-wise)."""
    found = steps.branch(
        lab,
        cuts(lab.experts),
        stage=f"branch-{iteration}",
        temperature=settings.explore.temperature,
        samples=settings.explore.samples,
        seed=iteration,
    )
    rules = settings.contrast
    return action_pairs(found, rules.min_gap, both_directions=rules.both_directions)


def stages(settings: EtoSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        if settings.granularity != "step":
            declared.append(Stage.explore(n, "explore"))
        if settings.granularity != "trajectory":
            declared.append(Stage.continued(f"branch-{n}", "explore", iteration=n))
        added = ("accumulate",) if n > 1 else ()
        declared += [
            Stage.contrast(n, "granularity", "contrast"),
            Stage.prefer(f"eto-{n}", n, "dpo", "guard", *added),
        ]
    return declared


def needs(settings: EtoSettings) -> list[Need]:
    """Experts to clone or to contrast with; whole episodes of tasks without one where `agent_pairs`."""
    if not settings.iterations:
        return [Need.EXPERTS]
    if settings.granularity != "trajectory":
        return [Need.EXPERTS, Need.REPLAY, Need.SPREAD]
    return [Need.SPREAD] if settings.contrast.agent_pairs else [Need.EXPERTS, Need.SPREAD]


METHOD = Method(
    name="eto",
    summary="explore, contrast with the expert, prefer",
    settings=EtoSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=needs,
)
