"""Selecting: the checkpoint of a training stage that is best on dev."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from eto.data.files import read_object, write_json
from eto.errors import InputError
from eto.evaluation.behaviour import behaviour
from eto.experiment.lab import Lab
from eto.experiment.stage import OpenStage
from eto.protocols import Agent, Outcome
from eto.steps.cloning import save_model
from eto.types import Phase, checkpoint_name


def select(lab: Lab, rewards: Mapping[Agent, float], note: str = "") -> Outcome:
    """The outcome of agents with their dev rewards, in the order in which they were made: the best ships,
    the earlier of equals; without dev tasks the last. note: what a person should know."""
    agents = tuple(rewards)
    if not lab.splits["dev"]:
        return Outcome(agents, agents[-1].name, "the last, as there are no dev tasks", note)
    best = max(agents, key=lambda agent: rewards[agent])
    others = ", ".join(f"{agent.name} {rewards[agent]:.3f}" for agent in agents if agent != best)
    reason = f"dev reward {rewards[best]:.3f}" + (f"; {others}" if others else "")
    return Outcome(agents, best.name, reason, note)


Check = tuple[int, int | None]
"""After what dev was played: an epoch, from 1, and the step of the training within it; None at its end."""


class Checks:
    """Dev rewards in the course of a stage; keeps the best checkpoint."""

    def __init__(self, lab: Lab, stage: OpenStage, start_reward: float) -> None:
        """start_reward: on dev, of the agent that the stage trains, as it comes in."""
        self.lab, self.stage, self.start_reward = lab, stage, start_reward
        self._path = stage.directory / "checks.json"

    def measure(self, epoch: int, step: int | None = None) -> None:
        """Play dev with the weights as they are after `epoch`, from 1, or after `step` within it."""
        check, earlier = (epoch, step), self.rewards
        earlier.pop(check, None)
        reward = self.lab.measure(self._name(check), "dev") if self.lab.splits["dev"] else 0.0
        if reward > max(earlier.values(), default=float("-inf")):
            save_model(self.lab.learner, self.stage.directory)
        rewards = {**earlier, check: reward}
        write_json(self._path, {_label(each): rewards[each] for each in sorted(rewards, key=_order)})

    def behaviour(self, epoch: int, step: int | None = None) -> dict[str, float]:
        """How the agent acted in a check; empty where it took no action."""
        played = self.lab.run.store.get(self.phase((epoch, step)))
        acted = behaviour(played, self.lab.learner.renderer.stops)
        return acted.figures if acted else {}

    def patience_spent(self, epoch: int, patience: int | None, step: int | None = None) -> bool:
        """Whether `patience` checks up to that one brought nothing better than what was before them."""
        so_far = [check for check in self.rewards if _order(check) <= _order((epoch, step))]
        rewards = [self.start_reward, *(self.rewards[check] for check in so_far)]
        return patience is not None and len(so_far) - rewards.index(max(rewards)) >= patience

    def best(self) -> tuple[Check, float]:
        """The check whose checkpoint is kept, and its dev reward; the earlier of equals."""
        seen = self.rewards
        check = max(seen, key=lambda each: seen[each])
        return check, seen[check]

    def phase(self, check: Check) -> Phase:
        """The phase of the store that holds a check's episodes."""
        return Phase.evaluate(self._name(check), "dev")

    def _name(self, check: Check) -> str:
        return checkpoint_name(self.stage.name, _label(check))

    @property
    def rewards(self) -> dict[Check, float]:
        """Check -> dev reward in the course of training, those of an interrupted attempt included. Raises
        `InputError` for a damaged record."""
        if not self._path.exists():
            return {}
        noted = read_object(self._path)
        if not all(_LABEL.fullmatch(label) and isinstance(r, int | float) for label, r in noted.items()):
            hint = "restore it from a copy, or delete the stage's directory to train it again"
            raise InputError("is not a record of dev checks", where=str(self._path), hint=hint)
        rewards = {_check(label): reward for label, reward in noted.items()}
        return {check: rewards[check] for check in sorted(rewards, key=_order)}


_LABEL = re.compile(r"[0-9]+(\.[0-9]+)?")


def _label(check: Check) -> str:
    """`2` after an epoch, `2.40` after a step within it."""
    epoch, step = check
    return str(epoch) if step is None else f"{epoch}.{step}"


def _check(label: str) -> Check:
    epoch, _, step = label.partition(".")
    return int(epoch), int(step) if step else None


def _order(check: Check) -> tuple[int, float]:
    epoch, step = check
    return epoch, math.inf if step is None else step
