"""Staggered chains of ETO whose pairs mix: early and late failures in every round.

Optim4RL (arXiv 2302.01470, "pipeline training") runs agents that are reset at different times, so that each
batch mixes early and late training. Here the idea without its learned optimiser, on rounds of ETO:

    clone;  chain c begins with the clone at time c
    at time t = 1 ... T, for the chains 1 ... min(t, C) that have begun:
        each explores;  pairs of the expert and each chain's own episodes, all put together
        each is trained on all of them, the agent before as its reference
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from eto import steps
from eto.credit.contrast import accumulated
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    ExploreSettings,
    GuardSettings,
    MethodSettings,
    SftSettings,
)
from eto.settings.base import Conflict, Most
from eto.settings.limits import Count
from eto.types import Pair, Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class StaggeredSettings(MethodSettings):
    """Cloning, then chains of ETO's rounds, each begun a round after the one before."""

    name: Literal["staggered"] = "staggered"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 3
    """Rounds of the first chain; each further chain has one less."""
    chains: Annotated[int, Field(ge=2), Most(1000)] = 2
    """Agents that are trained beside each other. Each costs exploring and training of its own."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert, with which every chain begins."""
    explore: ExploreSettings = ExploreSettings()
    """Each agent's own episodes."""
    contrast: ContrastSettings = ContrastSettings()
    """Making pairs of them, for each agent's by themselves."""
    dpo: DpoSettings = DpoSettings()
    """Preference training on the pairs of all chains."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def idle_without_expert(self) -> str:
        return "" if self.contrast.agent_pairs else "set method.contrast.agent_pairs to true"

    def without_effect(self) -> Mapping[str, str]:
        return {"guard.ship_only_if_better": "leave it to the dev tasks: the best of all agents ships"}

    @model_validator(mode="after")
    def _every_chain_begins(self) -> Self:
        if self.chains > self.iterations:
            raise Conflict(
                f"chain {self.chains} would begin after {{place}}iterations, which is {self.iterations}: "
                "lower {place}chains, or raise it"
            )
        return self


class Turn(NamedTuple):
    """One round of one chain."""

    number: int
    """Of its stages, from 1, through all chains."""
    chain: int
    """From 1."""
    agent: str
    """What it makes."""


def train(lab: Lab, settings: StaggeredSettings) -> Outcome:
    """Clone, then let chains explore side by side and learn from the pairs of all."""
    clone = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {clone: steps.evaluate(lab, clone)}
    acting = dict.fromkeys(range(1, settings.chains + 1), clone)
    for time, turns in enumerate(schedule(settings), start=1):
        mixed: list[Pair] = []
        explored: list[Trajectory] = []
        for turn in turns:
            lab.become(acting[turn.chain])
            own = steps.explore(lab, settings.explore, turn.number)
            pairs, why = steps.contrast(lab, lab.experts, own, settings.contrast, settings.dpo, turn.number)
            mixed, explored = accumulated(mixed, pairs), [*explored, *own]
        if not mixed:
            why = steps.lacks(lab, settings, explored) or why
            return steps.select(lab, rewards, f"time {time} gave no pairs: {why}")
        for turn in turns:
            start = acting[turn.chain]
            lab.become(start)
            acting[turn.chain], result = steps.prefer(
                lab,
                mixed,
                settings.dpo,
                contrast=settings.contrast,
                guard=settings.guard,
                agent=turn.agent,
                start_reward=rewards[start],
                iteration=turn.number,
            )
            rewards[acting[turn.chain]] = result.dev_reward
    return steps.select(lab, rewards)


def schedule(settings: StaggeredSettings) -> Iterator[list[Turn]]:
    """The turns of each time: those of the chains that have begun."""
    number = 0
    for time in range(1, settings.iterations + 1):
        begun = range(1, min(time, settings.chains) + 1)
        yield [Turn(number + chain, chain, f"chain-{chain}-{time - chain + 1}") for chain in begun]
        number += len(begun)


def stages(settings: StaggeredSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for turns in schedule(settings):
        for turn in turns:
            explored = Stage.explore(turn.number, "explore")
            # Only the first is played by the agent that was made last.
            declared += [
                replace(explored, common=turn.number == 1),
                Stage.contrast(turn.number, "contrast"),
            ]
        declared += [Stage.prefer(turn.agent, turn.number, "chains", "dpo", "guard") for turn in turns]
    return declared


METHOD = Method(
    name="staggered",
    summary="chains of ETO, each begun a round later, that train on the pairs of all",
    settings=StaggeredSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.SPREAD] if settings.contrast.agent_pairs else [Need.EXPERTS, Need.SPREAD],
)
