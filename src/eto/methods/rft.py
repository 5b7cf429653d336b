"""Rejection sampling fine-tuning (RFT, arXiv 2308.01825): clone the agent's own successes too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class RftSettings(MethodSettings):
    """Cloning, several episodes of each task, and cloning again with the successes among them."""

    name: Literal["rft"] = "rft"
    """The method."""
    sft: SftSettings = SftSettings()
    """Cloning, of the expert and then of expert and successes."""
    explore: ExploreSettings = ExploreSettings(samples=4, temperature=0.7)
    """Sampling the agent's episodes. Paper: 100 samples at temperature 0.7."""
    least_reward: Annotated[float, Field(gt=0, le=1)] = 1.0
    """An episode of at least this reward is a success. Paper: answers that are right."""


def train(lab: Lab, settings: RftSettings) -> Outcome:
    """Clone, sample, keep distinct successes, and clone them with the experts from the first model."""
    base = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {base: steps.evaluate(lab, base)}
    explored = steps.explore(lab, settings.explore)
    if note := steps.lacks(lab, settings, explored, least_reward=settings.least_reward):
        return steps.select(lab, rewards, note)
    accepted = distinct_successes(explored, settings.least_reward, known=lab.cloned)
    agent = steps.clone(lab, [*lab.cloned, *accepted], settings.sft, agent="rft", afresh=True)
    rewards[agent] = steps.evaluate(lab, agent)
    return steps.select(lab, rewards)


def distinct_successes(
    explored: Iterable[Trajectory], least_reward: float, known: Sequence[Trajectory] = ()
) -> list[Trajectory]:
    """Episodes of at least `least_reward`, each way of solving a task once and none that `known` holds
    (section 3.3 of the paper: distinct reasoning paths)."""
    seen = {_way(trajectory) for trajectory in known}
    accepted = []
    for trajectory in sorted(explored, key=lambda t: (t.task.id, t.sample)):
        success = not trajectory.failed and trajectory.reward >= least_reward
        if success and _way(trajectory) not in seen:
            seen.add(_way(trajectory))
            accepted.append(trajectory)
    return accepted


def _way(trajectory: Trajectory) -> tuple[object, ...]:
    return (trajectory.task.id, *(turn.said for turn in trajectory.turns))


def stages(settings: RftSettings) -> list[Stage]:
    """`train` as stages."""
    return [
        Stage.clone("sft", "sft"),
        Stage.dev("sft"),
        Stage.explore(1, "explore"),
        Stage.clone("rft", "least_reward"),
        Stage.dev("rft"),
    ]


METHOD = Method(
    name="rft",
    summary="clone the agent's own successes too",
    settings=RftSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.REWARD],
)
