"""LOPE (arXiv 2407.06503) on pairs: failures are told apart by how near they are to preferred trajectories.

The paper guides an agent with sparse rewards by c(tau) = 1 - MMD^2(tau, preferred), without a reward model.
Here c ranks what the reward leaves equal, within ETO's rounds:

    clone;  repeat: play;  c of each episode, preferred = best trajectories of its task type;
    pairs by reward as in ETO, and of own episodes by c (or r + alpha z(c), alpha decaying);  DPO
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator

from eto import steps
from eto.credit.similarity import Key, PairRules, hardest, pairs_by_value, preferred_by_kind, with_bonus
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
from eto.settings.similarity import SimilaritySettings
from eto.types import Pair, Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class LopeSettings(MethodSettings):
    """Cloning, then rounds of own episodes whose closeness to preferred ones makes pairs too."""

    name: Literal["lope"] = "lope"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 1
    """Rounds of playing, comparing and preference training."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings(samples=4, temperature=1.0)
    """The agent's own episodes; one of a task has none to be compared with."""
    similarity: SimilaritySettings = SimilaritySettings()
    """Closeness to preferred trajectories, and the pairs it makes."""
    contrast: ContrastSettings = ContrastSettings(agent_pairs=True, turns="window", window=3, repeats=False)
    """Pairs by reward; which turns carry the contrast, in all pairs."""
    dpo: DpoSettings = DpoSettings()
    """Preference training on the pairs."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    @model_validator(mode="after")
    def _ties_have_weight(self) -> Self:
        if self.contrast.gap_weights and self.similarity.ties:
            raise Conflict(
                "{place}contrast.gap_weights gives pairs of equal reward no weight; "
                "set {place}similarity.ties to 0"
            )
        if self.explore.samples == 1 and self.similarity.ties:
            raise Conflict(
                "{place}similarity.ties compares episodes of one task: set {place}explore.samples above 1, "
                "or it to 0"
            )
        return self

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.guard.dev_every_epoch else ""

    def idle_without_expert(self) -> str:
        paired = self.contrast.agent_pairs or self.similarity.ties
        return "" if paired else "set method.contrast.agent_pairs to true, or method.similarity.ties above 0"

    def without_effect(self) -> Mapping[str, str]:
        idle = {"guard.ship_only_if_better": "leave it to the dev tasks: the best of all agents ships"}
        like = self.similarity
        if like.bonus is None:
            idle["similarity.bonus_decay"] = "give method.similarity.bonus a number"
        if not like.ties:
            names = ["least_difference", "bonus", "bonus_decay"]
            if like.hardest is None:
                names += ["encoder", "bandwidth", "preferred", "least_reward"]
            idle |= {f"similarity.{name}": "set method.similarity.ties above 0" for name in names}
        return idle


def train(lab: Lab, settings: LopeSettings) -> Outcome:
    """Clone, then rounds of ETO with pairs of own episodes by closeness beside those by reward."""
    like = settings.similarity
    steps.check_encoder(like)
    acting = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {acting: steps.evaluate(lab, acting)}
    known, note = list(lab.experts), ""
    for iteration in range(1, settings.iterations + 1):
        explored = steps.explore(lab, settings.explore, iteration)
        known += explored
        preferred = preferred_by_kind(known, like.least_reward, like.preferred)
        near = steps.nearness(lab, explored, preferred, like, iteration)
        own = pairs_of_own(explored, near, settings, iteration)
        paired = explored
        if like.hardest is not None:
            paired = hardest(explored, near, like.least_reward, like.hardest)
        pairs, why = steps.contrast(
            lab, lab.experts, paired, settings.contrast, settings.dpo, iteration, further=own
        )
        if not pairs:
            why = steps.lacks(lab, settings, explored, least_reward=like.least_reward) or why
            note = f"round {iteration} gave no pairs, neither by reward nor by closeness: {why}"
            lab.watch.say(note)
            continue
        start = rewards[acting]
        acting, result = steps.prefer(
            lab,
            pairs,
            settings.dpo,
            contrast=settings.contrast,
            guard=settings.guard,
            agent=f"lope-{iteration}",
            start_reward=start,
            iteration=iteration,
        )
        rewards[acting] = result.dev_reward
    return steps.select(lab, rewards, note if len(rewards) == 1 else "")


def pairs_of_own(
    explored: Sequence[Trajectory], near: Mapping[Key, float], settings: LopeSettings, iteration: int
) -> list[Pair]:
    """Two failures of equal reward, the nearer one chosen; with a bonus two episodes by r + alpha z(c), never
    against their rewards; alpha = bonus * decay^(iteration - 1)."""
    like, margin = settings.similarity, settings.contrast.margin_turns
    if like.bonus is None:
        rules = PairRules(like.ties, like.least_difference, margin, below=like.least_reward)
        return pairs_by_value(explored, near, rules)
    values = with_bonus(explored, near, like.bonus * like.bonus_decay ** (iteration - 1))
    return pairs_by_value(explored, values, PairRules(like.ties, like.least_difference, margin))


def stages(settings: LopeSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    measured = tuple(f"similarity.{name}" for name in ("encoder", "bandwidth", "preferred", "least_reward"))
    for n in range(1, settings.iterations + 1):
        declared += [
            Stage.explore(n, "explore"),
            Stage(f"nearness-{n}", measured, iteration=n),
            Stage.contrast(n, "similarity", "contrast"),
            Stage.prefer(f"lope-{n}", n, "dpo", "guard"),
        ]
    return declared


def needs(settings: LopeSettings) -> list[Need]:
    """Something to be near to; without pairs by closeness, what ETO needs."""
    if settings.similarity.ties:
        return [Need.EXPERTS | Need.REWARD]
    return [Need.SPREAD] if settings.contrast.agent_pairs else [Need.EXPERTS, Need.SPREAD]


METHOD = Method(
    name="lope",
    summary="pairs of two failures, by closeness to preferred trajectories",
    settings=LopeSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=needs,
)
