"""The collapse guard within a round: what goes on, what is told, also over an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eto import steps
from eto.credit.contrast import contrast
from eto.experiment.lab import Lab
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.watch import Silent
from eto.methods.eto import EtoSettings
from eto.settings import DpoSettings, GuardSettings
from eto.steps import Round
from eto.training.learner import Learner, load_learner
from eto.types import Message, Pair, StopReason, Task, Trajectory, Turn

RECIPE = parse_recipe("name: guard\nenvironment: {name: textworld-express}")
SETTINGS = EtoSettings(
    dpo=DpoSettings(epochs=4, learning_rate=3e-3, batch_size=2, schedule="constant", warmup_ratio=0.0),
    guard=GuardSettings(max_margin=0.5, dev_every_epoch=False),
)


def trajectory(number: int, action: str, reward: float, source: str) -> Trajectory:
    task = Task(f"coin/{number}", "coin", "coin", "train")
    prompt = (Message("user", f"You are in room {number}. Find the coin."),)
    stop = StopReason.TERMINATED if reward else StopReason.OUT_OF_TURNS
    return Trajectory(task, prompt, (Turn(action, "", reward),), reward, bool(reward), stop, source)


@pytest.fixture
def pairs() -> list[Pair]:
    experts = [trajectory(n, "take coin", 1.0, "expert") for n in range(6)]
    return contrast(experts, [trajectory(n, "move north", 0.0, "sft") for n in range(6)])


@pytest.fixture
def policy(model: Path) -> Learner:
    return load_learner(model, dtype="float32")


class Dev(Lab):
    """A lab whose dev rewards are given by `dev_reward`, a function of the name they are kept under."""

    dev_reward: Callable[[str], float]

    def measure(self, name: str, split: str) -> float:
        return self.dev_reward(name)


def round_of(policy, pairs, directory: Path, dev_reward) -> Round:
    with Run.open(directory, RECIPE) as run:
        lab = Dev(RECIPE, run, None, {"dev": [pairs[0].task]}, [], policy, None, Silent())
        lab.dev_reward = dev_reward
        given = {"contrast": SETTINGS.contrast, "guard": SETTINGS.guard}
        _, result = steps.prefer(lab, pairs, SETTINGS.dpo, **given, agent="eto-1", start_reward=0.5)
        return result


def test_an_agent_stopped_before_its_only_check_is_checked(policy, pairs, tmp_path: Path) -> None:
    asked: list[str] = []

    def dev_reward(name: str) -> float:
        asked.append(name)
        return 0.7

    done = round_of(policy, pairs, tmp_path, dev_reward)
    assert "max_margin" in done.fired and len(asked) == 1
    assert done.shipped and done.dev_reward == 0.7
    with Run.open(tmp_path, RECIPE) as run:
        steps = [row["step"] for row in run.logged("dpo-1")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) < 12


def test_the_rule_that_fired_is_known_after_an_interruption(
    policy, pairs, model: Path, tmp_path: Path
) -> None:
    def interrupted(name: str) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        round_of(policy, pairs, tmp_path, interrupted)
    calm = round_of(load_learner(model, dtype="float32"), pairs, tmp_path / "calm", lambda _: 0.4)
    resumed = round_of(load_learner(model, dtype="float32"), pairs, tmp_path, lambda _: 0.4)
    assert resumed == calm and not calm.shipped and "max_margin" in calm.fired
