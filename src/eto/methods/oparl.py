"""OPARL (arXiv 2312.15965): an optimistic explorer gathers episodes, a pessimistic executor is shipped.

In the paper the executor maximises min_k Q_k over K critics and the explorer max_k Q_k; of N actions of the
explorer the one with the largest std_k Q_k is played. Within ETO's rounds, without training the explorer:

    clone;  repeat: play greedily;  fit Q_1..Q_K to the rewards of all episodes;
    play again, of N sampled actions argmax_a std_k Q_k(s, a);  pairs by reward;  DPO

With `adapters` the explorer is an agent of its own. Of the actions that each samples in states of own
episodes, that of the highest bound is preferred to that of the lowest: for the explorer by max_k, before it
plays, for the executor by min_k, afterwards. After R rounds the explorer is the executor again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator

from eto import steps
from eto.credit.ensemble import optimistic, pessimistic
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
from eto.settings.ensemble import ActorPairSettings, EnsembleSettings, ExplorerSettings
from eto.settings.limits import Count
from eto.types import Pair

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class OparlSettings(MethodSettings):
    """Cloning, then rounds of an executor's greedy episodes and of an explorer's."""

    name: Literal["oparl"] = "oparl"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 1
    """Rounds of playing and preference training."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings()
    """The executor's episodes: one of each task, greedy."""
    explorer: ExplorerSettings = ExplorerSettings()
    """The explorer's episodes: one of each task, by the actions that are most disputed."""
    ensemble: EnsembleSettings = EnsembleSettings()
    """Estimates of actions."""
    adapters: ActorPairSettings | None = None
    """Explorer and executor as two adapters, each trained; null: one agent, the explorer only chooses."""
    contrast: ContrastSettings = ContrastSettings(agent_pairs=True)
    """Without `adapters`: pairs by reward, of both agents' episodes."""
    dpo: DpoSettings = DpoSettings()
    """Preference training on the pairs."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all executors on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def needs_adapters(self) -> str:
        return "adapters" if self.adapters else ""

    def idle_without_expert(self) -> str:
        paired = self.adapters or self.contrast.agent_pairs
        return "" if paired else "set method.contrast.agent_pairs to true"

    def without_effect(self) -> Mapping[str, str]:
        idle = {"guard.ship_only_if_better": "leave it to the dev tasks: the best of all executors ships"}
        if self.adapters is None:
            return idle
        if self.adapters.estimate == "heads":
            idle["adapters.monte_carlo"] = "set method.adapters.estimate to rollouts"
        return idle | {"contrast": "set method.adapters to null"}

    @model_validator(mode="after")
    def _actions_to_dispute(self) -> Self:
        if self.explorer.candidates == 1:
            raise Conflict("one action is no choice: set {place}explorer.candidates above 1")
        return self


def train(lab: Lab, settings: OparlSettings) -> Outcome:
    """Clone, then rounds in which half of the episodes are greedy and half go where estimates differ."""
    executor = explorer = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {executor: steps.evaluate(lab, executor)}
    dev, known, two = dict(rewards), list(lab.experts), settings.adapters
    rank = partial(
        steps.rank, lab, two or ActorPairSettings(), settings.explorer, settings.ensemble, settings.dpo
    )
    # Estimates are fitted over all tasks; pairs by reward are of one.
    lacks = partial(steps.lacks, lab, settings, by_task=two is None)
    for iteration in range(1, settings.iterations + 1):
        first, second = halves(iteration)
        exploited = steps.explore(lab, settings.explore, first)
        known += exploited
        ensemble = steps.estimate(lab, known, settings.ensemble, first)
        lab.act_as(explorer)
        if two and not lacks(exploited):
            pairs = rank(exploited, known, optimistic, executor, first)
            explorer = learn(lab, settings, pairs, explorer, f"explorer-{iteration}", dev, first)
        choice = steps.Disputed(ensemble, settings.explorer.candidates)
        explored = steps.explore(lab, settings.explorer, second, choice)
        known += explored
        lab.act_as(executor)
        further = [replace(each, sample=settings.explore.samples + each.sample) for each in explored]
        own = [*exploited, *further]
        if note := lacks(own):
            return steps.select(lab, rewards, note)
        if two:
            pairs = rank(own, known, pessimistic, executor, second)
        else:
            pairs, why = steps.contrast(lab, lab.experts, own, settings.contrast, settings.dpo, iteration)
            if not pairs:
                lab.watch.say(f"round {iteration}: {why}")
        number = second if two else iteration
        executor = learn(lab, settings, pairs, executor, f"oparl-{iteration}", dev, number)
        rewards[executor] = dev[executor]
        if not two or iteration % two.reset_every == 0:
            explorer = executor
    return steps.select(lab, rewards)


def halves(iteration: int) -> tuple[int, int]:
    """Numbers, from 1, of a round's halves: the executor plays, then the explorer. With adapters the explorer
    learns in the first, the executor in the second."""
    return 2 * iteration - 1, 2 * iteration


def learn(
    lab: Lab,
    settings: OparlSettings,
    pairs: Sequence[Pair],
    agent: Agent,
    name: str,
    dev: dict[Agent, float],
    number: int,
) -> Agent:
    """`agent` after preference training, whose dev reward joins `dev`; itself where there are no pairs."""
    if not pairs:
        lab.watch.say(f"no pairs for {name}")
        return agent
    made, result = steps.prefer(
        lab,
        pairs,
        settings.dpo,
        contrast=ContrastSettings() if settings.adapters else settings.contrast,
        guard=settings.guard,
        agent=name,
        start_reward=dev[agent],
        iteration=number,
    )
    dev[made] = result.dev_reward
    return made


def stages(settings: OparlSettings) -> list[Stage]:
    """`train` as stages."""
    declared, two = [Stage.clone("sft", "sft"), Stage.dev("sft")], settings.adapters
    for n in range(1, settings.iterations + 1):
        first, second = halves(n)
        fitted = [Stage(f"ensemble-{number}", ("ensemble",), iteration=number) for number in (first, second)]
        by_explorer = replace(Stage.explore(second, "explorer", "adapters"), common=False)
        declared += [Stage.explore(first, "explore"), fitted[0]]
        if two:
            declared += [*learnt(f"explorer-{n}", first, two), by_explorer]
            declared += [*fitted[1:] * (two.estimate == "heads"), *learnt(f"oparl-{n}", second, two)]
        else:
            trained = Stage.prefer(f"oparl-{n}", n, "dpo", "guard")
            declared += [by_explorer, Stage.contrast(n, "contrast"), trained]
    return declared


def learnt(agent: str, number: int, two: ActorPairSettings) -> list[Stage]:
    """Those of `steps.rank` and `learn`."""
    values = [Stage.continued(f"values-{number}", iteration=number)] * (two.estimate == "rollouts")
    return [
        Stage.continued(f"candidates-{number}", "explorer", "adapters", iteration=number),
        *values,
        Stage.contrast(number),
        Stage.prefer(agent, number, "dpo", "guard"),
    ]


def needs(settings: OparlSettings) -> list[Need]:
    """States reached again for single actions; otherwise experts, unless own episodes are paired."""
    if settings.adapters:
        return [Need.SPREAD, Need.REPLAY]
    return [Need.SPREAD] if settings.contrast.agent_pairs else [Need.EXPERTS, Need.SPREAD]


METHOD = Method(
    name="oparl",
    summary="an explorer that takes disputed actions, and the executor that ships",
    settings=OparlSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=needs,
)
