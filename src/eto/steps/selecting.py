"""Selecting: the checkpoint of a training stage that is best on dev."""

from __future__ import annotations

from collections.abc import Mapping

from eto.data.files import read_object, write_json
from eto.errors import InputError
from eto.experiment.lab import Lab
from eto.experiment.stage import OpenStage
from eto.protocols import Agent, Outcome
from eto.steps.cloning import save_model
from eto.types import Phase, checkpoint_name


def select(lab: Lab, rewards: Mapping[Agent, float]) -> Outcome:
    """The outcome of agents with their dev rewards, in the order in which they were made: the best ships,
    the earlier of equals; without dev tasks the last."""
    agents = tuple(rewards)
    if not lab.splits["dev"]:
        return Outcome(agents, agents[-1].name, "the last, as there are no dev tasks")
    best = max(agents, key=lambda agent: rewards[agent])
    others = ", ".join(f"{agent.name} {rewards[agent]:.3f}" for agent in agents if agent != best)
    return Outcome(agents, best.name, f"dev reward {rewards[best]:.3f}" + (f"; {others}" if others else ""))


class Checks:
    """Dev rewards after the epochs of a stage; keeps the best checkpoint."""

    def __init__(self, lab: Lab, stage: OpenStage, start_reward: float) -> None:
        """start_reward: on dev, of the agent that the stage trains, as it comes in."""
        self.lab, self.stage, self.start_reward = lab, stage, start_reward
        self._path = stage.directory / "checks.json"

    def measure(self, epoch: int) -> None:
        """Play dev with the weights as they are after `epoch`, from 1."""
        earlier = self.rewards
        earlier.pop(epoch, None)
        reward = self.lab.measure(self._name(epoch), "dev") if self.lab.splits["dev"] else 0.0
        if reward > max(earlier.values(), default=float("-inf")):
            save_model(self.lab.learner, self.stage.directory)
        write_json(self._path, {str(e): r for e, r in {**earlier, epoch: reward}.items()})

    def patience_spent(self, epoch: int, patience: int | None) -> bool:
        """Whether `patience` epochs up to `epoch` brought nothing better than what was before them."""
        seen = self.rewards
        best = max([0, *seen], key=lambda e: (self.start_reward if e == 0 else seen[e], -e))
        return patience is not None and epoch - best >= patience

    def best(self) -> tuple[int, float]:
        """(epoch, dev reward) of the checkpoint kept; the earlier of equals."""
        seen = self.rewards
        epoch = max(seen, key=lambda e: (seen[e], -e))
        return epoch, seen[epoch]

    def phase(self, epoch: int) -> Phase:
        """The phase of the store that holds an epoch's episodes."""
        return Phase.evaluate(self._name(epoch), "dev")

    def _name(self, epoch: int) -> str:
        return checkpoint_name(self.stage.name, epoch)

    @property
    def rewards(self) -> dict[int, float]:
        """Epoch -> dev reward, those of an interrupted attempt included. Raises `InputError` for a damaged
        record."""
        if not self._path.exists():
            return {}
        noted = read_object(self._path)
        if not all(e.isdecimal() and isinstance(r, int | float) for e, r in noted.items()):
            hint = "restore it from a copy, or delete the stage's directory to train it again"
            raise InputError("is not a record of dev checks", where=str(self._path), hint=hint)
        return {int(epoch): reward for epoch, reward in noted.items()}
