"""StepAgent-Implicit (arXiv 2411.03817): in each state of the expert, its action over the agent's.

Inspection: the agent acts once in every state s_t of the experts. Reflection: with its own action a'_t that
differs from the expert's a_t,

    L = -E log sigma(beta log pi(a_t|s_t)/pi_ref(a_t|s_t) - beta log pi(a'_t|s_t)/pi_ref(a'_t|s_t))

No reward is used. The formula is from memory of the paper, whose code was not found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from eto import steps
from eto.credit.monte_carlo import Branch, cuts, pair_of
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ContrastSettings, DpoSettings, GuardSettings, MethodSettings, SftSettings
from eto.settings.base import Most
from eto.settings.limits import Count
from eto.types import Pair

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class StepAgentSettings(MethodSettings):
    """Cloning, then rounds of inspection and reflection."""

    name: Literal["step_agent"] = "step_agent"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 1
    """Rounds. The paper's number was not found."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    dpo: DpoSettings = DpoSettings(epochs=1, sft_weight=1.0)
    """Preference training on single actions. The paper's values were not found."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""


def train(lab: Lab, settings: StepAgentSettings) -> Outcome:
    """Clone, then inspect and reflect; the policy as it comes into a round is its reference."""
    agent = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {agent: steps.evaluate(lab, agent)}
    for iteration in range(1, settings.iterations + 1):
        stage = f"inspect-{iteration}"
        inspected = steps.branch(lab, cuts(lab.experts), stage=stage, seed=iteration, own_turns=1)
        reflected = expert_over_agent(inspected)
        rules = ContrastSettings()
        pairs, _ = steps.contrast(lab, [], [], rules, settings.dpo, iteration, further=reflected)
        if not pairs:
            lab.watch.say(f"round {iteration}: the agent acts as the expert in every state")
            break
        agent, result = steps.prefer(
            lab,
            pairs,
            settings.dpo,
            contrast=rules,
            guard=settings.guard,
            agent=f"step-agent-{iteration}",
            start_reward=rewards[agent],
            iteration=iteration,
        )
        rewards[agent] = result.dev_reward
    return steps.select(lab, rewards)


def expert_over_agent(inspected: Iterable[Branch]) -> list[Pair]:
    """The expert's action chosen, the agent's rejected, wherever they differ; loss on these two alone."""
    return [pair_of(each, True, "action", turns=1) for each in inspected if each.differs]


def stages(settings: StepAgentSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        declared += [
            Stage.continued(f"inspect-{n}", iteration=n),
            Stage.contrast(n),
            Stage.prefer(f"step-agent-{n}", n, "dpo", "guard"),
        ]
    return declared


METHOD = Method(
    name="step_agent",
    summary="the expert's action over the agent's, state by state",
    settings=StepAgentSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.EXPERTS, Need.REPLAY],
)
