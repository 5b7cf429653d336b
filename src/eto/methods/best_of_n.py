"""Best-of-N: the cloned agent plays each test task N times, and the best episode counts (ETO, section 4).

It looks at the environment's reward when it is tested, so it is no agent that could ship, and its figure
stands apart from those of the agents: a bound on what a perfect choice among N would bring.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
from eto.types import Phase, Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab

STAGE = "best-of-n"


class BestOfNSettings(MethodSettings):
    """Cloning, and the best of N episodes of each test task."""

    name: Literal["best_of_n"] = "best_of_n"
    """The method."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings(samples=10, temperature=1.0)
    """Episodes of each test task. Paper: 10; its temperature was not found."""


def train(lab: Lab, settings: BestOfNSettings) -> Outcome:
    """Clone; then play each test task N times and keep the best."""
    agent = steps.clone(lab, lab.cloned, settings.sft)
    steps.evaluate(lab, agent)
    phase, samples = Phase.continued(STAGE), settings.explore.samples
    with lab.run.stage(STAGE) as stage:
        if not stage.done:
            from eto.evaluation.statistics import mean_interval

            stage.played(phase)
            temperature = settings.explore.temperature
            played = lab.play("test", phase, temperature=temperature, samples=samples)
            reward = mean_interval(list(best_rewards(played).values())).to_dict()
            stage.note(reward=reward["mean"], low=reward["low"], high=reward["high"], tasks=reward["n"])
            stage.note(samples=samples, bound=f"best of {samples} by {agent.name}")
        figures = stage.metrics
    note = f"best of {samples} on the test tasks, chosen by their reward: {figures['reward']:.3f}"
    if figures["low"] is not None:
        note += f" [{figures['low']:.3f}, {figures['high']:.3f}]"
    return Outcome((agent,), agent.name, "the cloned agent, as a choice by reward cannot ship", note)


def best_rewards(played: Iterable[Trajectory]) -> dict[str, float]:
    """Of each task the highest reward."""
    best: dict[str, float] = {}
    for episode in played:
        best[episode.task.id] = max(episode.reward, best.get(episode.task.id, 0.0))
    return best


def stages(settings: BestOfNSettings) -> list[Stage]:
    """`train` as stages."""
    return [Stage.clone("sft", "sft"), Stage.dev("sft"), Stage.continued(STAGE, "explore")]


METHOD = Method(
    name="best_of_n",
    summary="the best of N episodes, chosen by reward: a bound, no agent",
    settings=BestOfNSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.EXPERTS],
    best_of=Phase.continued(STAGE),
)
