"""Negative-aware training (NAT, arXiv 2402.11651): failures are cloned too, under a prompt that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from eto import steps
from eto.engines.actor import mark
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


TAGS = ("[Totally Incorrect]", "[Mostly Incorrect]", "[Mostly Correct]", "[Correct]")


class NatSettings(MethodSettings):
    """Cloning, the agent's own episodes, and cloning again with prompts that say how each ends."""

    name: Literal["nat"] = "nat"
    """The method."""
    sft: SftSettings = SftSettings()
    """Cloning, of the expert and then of expert and marked episodes. Paper: 2 epochs at 5e-5."""
    explore: ExploreSettings = ExploreSettings(samples=3, temperature=0.5)
    """Collecting the agent's episodes. Paper: 3 a question, at temperatures 0.2, 0.5 and 0.7."""
    least_reward: Annotated[float, Field(gt=0, le=1)] = 1.0
    """An episode of at least this reward is a success."""
    success: Annotated[str, Field(min_length=1)] = (
        "Generate a sequence of actions to solve the task correctly."
    )
    """What the prompt of a success ends with, and every prompt when the agent acts."""
    failure: Annotated[str, Field(min_length=1)] = (
        "Generate a sequence of actions to solve the task. But incorrectly solve the task."
    )
    """What the prompt of a failure ends with."""
    classes: Literal[2, 4] = 2
    """2: success and failure. 4: by reward, 0, below 0.4, below 1, and 1, each under its `TAGS`, the last of
    which is acted under. Paper: 2 for mathematics, 4 for HotpotQA by F1."""

    def without_effect(self) -> Mapping[str, str]:
        idle = ("least_reward", "success", "failure") if self.classes == 4 else ()
        return dict.fromkeys(idle, "set method.classes to 2")


def train(lab: Lab, settings: NatSettings) -> Outcome:
    """Clone, explore, mark by reward, and clone all from the first model; it acts as for success."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {base: steps.evaluate(lab, base)}
    explored = [t for t in steps.explore(lab, settings.explore) if t.turns and not t.failed]
    if note := steps.lacks(lab, settings, explored, least_reward=_least(settings)):
        return steps.select(lab, rewards, note)
    agent = steps.clone(
        lab,
        marked([*lab.cloned, *explored], settings),
        settings.sft.replace(zero_reward=True),
        agent="nat",
        afresh=True,
        prompt=words(1.0, settings),
    )
    rewards[agent] = steps.evaluate(lab, agent)
    return steps.select(lab, rewards)


def _least(settings: NatSettings) -> float:
    return 1.0 if settings.classes == 4 else settings.least_reward


def marked(trajectories: Iterable[Trajectory], settings: NatSettings) -> list[Trajectory]:
    """The trajectories with prompts that end with `success` or `failure`, by reward."""
    return [
        replace(each, messages=mark(each.messages, words(each.reward, settings))) for each in trajectories
    ]


def words(reward: float, settings: NatSettings) -> str:
    """What the prompt of an episode of this reward ends with."""
    if settings.classes == 4:
        return TAGS[(reward > 0) + (reward >= 0.4) + (reward >= 1)]
    return settings.success if reward >= settings.least_reward else settings.failure


def stages(settings: NatSettings) -> list[Stage]:
    """`train` as stages."""
    return [
        Stage.clone("sft", "sft"),
        Stage.dev("sft"),
        Stage.explore(1, "explore"),
        Stage.clone("nat", "least_reward", "success", "failure", "classes"),
        Stage.dev("nat"),
    ]


METHOD = Method(
    name="nat",
    summary="clone failures too, under a prompt that says so",
    settings=NatSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.EXPERTS | Need.REWARD],
)
