"""StepAgent (arXiv 2411.03817): the agent acts in each state s_t of the experts, and learns from comparing.

Implicit: with its own action a'_t that differs from the expert's a_t,

    L = -E log sigma(beta log pi(a_t|s_t)/pi_ref(a_t|s_t) - beta log pi(a'_t|s_t)/pi_ref(a'_t|s_t))

Inverse, as in GAIL (arXiv 1606.03476): a discriminator D learns to tell the agent from the expert,

    max_D E_pi log D(s, a) + E_expert log(1 - D(s, a)),     r(s, a) = -log D(s, a)

and of the agent's own actions in a state the best by r is preferred to the worst, where the paper has PPO.

No reward of the environment is used. The formulas are from memory of the paper, whose code was not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator

from eto import steps
from eto.credit.discriminator import best_over_worst
from eto.credit.monte_carlo import Branch, cuts, pair_of
from eto.protocols import Agent, Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    ExploreSettings,
    GuardSettings,
    MethodSettings,
    SftSettings,
)
from eto.settings.base import Conflict, Most
from eto.settings.discriminator import DiscriminatorSettings
from eto.settings.limits import Count, NotNegative
from eto.types import Pair

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


OF_INVERSE = ("explore", "discriminator", "min_gap")
"""Settings that count with `reward: inverse` alone."""


class StepAgentSettings(MethodSettings):
    """Cloning, then rounds of inspection and reflection."""

    name: Literal["step_agent"] = "step_agent"
    """The method."""
    reward: Literal["implicit", "inverse"] = "implicit"
    """implicit: the expert's action over the agent's greedy one. inverse: the agent's own actions by a
    discriminator's reward."""
    iterations: Annotated[Count, Most(1000)] = 1
    """Rounds. The paper's number was not found."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings(samples=4, temperature=1.0)
    """With `reward: inverse`: the agent's actions in each state. Ours."""
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    """With `reward: inverse`: the discriminator, trained anew from the cloned agent in each round."""
    min_gap: NotNegative = 0.5
    """With `reward: inverse`: rewards of a pair's actions differ by more than this, in nats. Ours."""
    dpo: DpoSettings = DpoSettings(epochs=1, sft_weight=1.0)
    """Preference training on single actions. The paper's values were not found."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    @model_validator(mode="after")
    def _actions_to_compare(self) -> Self:
        if self.reward == "inverse" and self.explore.samples < 2:
            raise Conflict("reward: inverse compares actions; set {place}explore.samples to at least 2")
        return self

    def without_effect(self) -> Mapping[str, str]:
        idle = () if self.reward == "inverse" else OF_INVERSE
        return dict.fromkeys(idle, "set method.reward to inverse")


def train(lab: Lab, settings: StepAgentSettings) -> Outcome:
    """Clone, then inspect and reflect; the policy as it comes into a round is its reference."""
    acts = settings.explore if settings.reward == "inverse" else ExploreSettings()
    base = agent = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {agent: steps.evaluate(lab, agent)}
    for iteration in range(1, settings.iterations + 1):
        inspected = steps.branch(
            lab,
            cuts(lab.experts),
            stage=f"inspect-{iteration}",
            temperature=acts.temperature,
            samples=acts.samples,
            seed=iteration,
            own_turns=1,
        )
        if settings.reward == "implicit":
            reflected, nothing = expert_over_agent(inspected), "the agent acts as the expert in every state"
        else:
            reflected, nothing = by_discriminator(lab, settings, inspected, base, agent, iteration)
        rules = ContrastSettings()
        pairs, why = steps.contrast(lab, [], [], rules, settings.dpo, iteration, further=reflected)
        if not pairs:
            note = why if reflected else nothing
            return replace(steps.select(lab, rewards), note=f"round {iteration}: {note}")
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


def by_discriminator(
    lab: Lab, settings: StepAgentSettings, inspected: list[Branch], base: Agent, acting: Agent, iteration: int
) -> tuple[list[Pair], str]:
    """Pairs of own actions by a discriminator's reward, and why there are none where that is so."""
    stage = f"discriminator-{iteration}"
    judged, doubt = steps.judge(lab, inspected, settings.discriminator, base=base, acting=acting, stage=stage)
    if doubt:
        return [], doubt
    return best_over_worst(judged, settings.min_gap), "no two actions of a state are min_gap apart"


def stages(settings: StepAgentSettings) -> list[Stage]:
    """`train` as stages."""
    declared, inverse = [Stage.clone("sft", "sft"), Stage.dev("sft")], settings.reward == "inverse"
    for n in range(1, settings.iterations + 1):
        declared += [
            Stage.continued(f"inspect-{n}", "reward", *["explore"] * inverse, iteration=n),
            *[Stage(f"discriminator-{n}", ("discriminator",), iteration=n)] * inverse,
            Stage.contrast(n, *["min_gap"] * inverse),
            Stage.prefer(f"step-agent-{n}", n, "dpo", "guard"),
        ]
    return declared


METHOD = Method(
    name="step_agent",
    summary="the expert's action over the agent's, or own actions by a discriminator, state by state",
    settings=StepAgentSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.EXPERTS, Need.REPLAY],
)
