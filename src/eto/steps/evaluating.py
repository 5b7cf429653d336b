"""Evaluating an agent on dev."""

from __future__ import annotations

from eto.experiment.lab import Lab
from eto.protocols import Agent, Stage


def evaluate(lab: Lab, agent: Agent) -> float:
    """Stage `dev-<agent>`: average reward of the learner, which is `agent`, on dev; 0 without dev tasks."""
    if not lab.splits["dev"]:
        return 0.0
    declared = Stage.dev(agent.name)
    with lab.run.stage(declared.name) as stage:
        if not stage.done:
            stage.note(reward=lab.measure(agent.name, "dev"))
            stage.played(*declared.phases)
        reward: float = stage.metrics["reward"]
        return reward
