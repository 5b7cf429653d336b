"""Evaluating an agent on dev."""

from __future__ import annotations

from eto.experiment.lab import Lab
from eto.protocols import Agent


def evaluate(lab: Lab, agent: Agent) -> float:
    """Stage `dev-<agent>`: average reward of the learner, which is `agent`, on dev; 0 without dev tasks."""
    if not lab.splits["dev"]:
        return 0.0
    with lab.run.stage(f"dev-{agent.name}") as stage:
        if not stage.done:
            stage.note(reward=lab.measure(agent.name, "dev"))
            stage.played(f"evaluate/{agent.name}/dev")
        reward: float = stage.metrics["reward"]
        return reward
