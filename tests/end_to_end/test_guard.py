"""The collapse guard within a round: what goes on, what is told, also over an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from eto.types import Message, Pair, Phase, StopReason, Task, Trajectory, Turn

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
    actions: Callable[[str], Sequence[str]] = staticmethod(lambda name: ())
    """What the agent does in the one episode of a check."""

    def measure(self, name: str, split: str) -> float:
        reward = self.dev_reward(name)
        if turns := tuple(Turn(action, "", reward) for action in self.actions(name)):
            episode = replace(trajectory(0, "wait", reward, "sft"), turns=turns)
            self.run.store.add(Phase.evaluate(name, split), episode)
        return reward


def round_of(
    policy, pairs, directory: Path, dev_reward, guard=SETTINGS.guard, actions=None, dev=True
) -> Round:
    with Run.open(directory, RECIPE) as run:
        splits = {"dev": [pairs[0].task] if dev else []}
        lab = Dev(RECIPE, run, None, splits, [], policy, None, Silent())
        lab.dev_reward = dev_reward
        lab.actions = actions or lab.actions
        given = {"contrast": SETTINGS.contrast, "guard": guard}
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
    assert asked == ["dpo-1/epoch-1"] and done.best_epoch == 1, "it has seen one epoch of the four"
    with Run.open(tmp_path, RECIPE) as run:
        steps = [row["step"] for row in run.logged("dpo-1")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) < 12


def test_without_dev_tasks_no_dev_reward_is_told(policy, pairs, tmp_path: Path) -> None:
    guard = SETTINGS.guard.replace(ship_only_if_better=False)
    done = round_of(policy, pairs, tmp_path, None, guard, dev=False)
    assert done.shipped and done.reason.startswith(
        "the last, as there are no dev tasks; training was stopped"
    )
    with Run.open(tmp_path, RECIPE) as run:
        assert "dev_reward" not in run.done("dpo-1")["metrics"]


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


FREE = GuardSettings(max_margin=None, max_chosen_drop=None)
"""Lets all twelve steps of four epochs happen."""


def test_an_agent_that_repeats_itself_stops_and_the_best_checkpoint_returns(
    policy, pairs, tmp_path: Path
) -> None:
    """Its reward goes on rising: nothing but how it acts tells."""

    def actions(name: str) -> list[str]:
        return ["look", "wait", "wait", "wait"] if name.endswith("epoch-2") else ["look", "wait", "take coin"]

    rewards = {"dpo-1/epoch-1": 0.8, "dpo-1/epoch-2": 0.6}
    guard = FREE.replace(max_repeated=0.4)
    done = round_of(policy, pairs, tmp_path, rewards.__getitem__, guard, actions)
    assert "after epoch 2, 50% of the actions repeat" in done.fired
    assert (done.best_epoch, done.dev_reward, done.shipped) == (1, 0.8, True)
    assert done.fired in done.reason and "epoch 1 is the best checkpoint" in done.reason


def test_dev_is_played_within_an_epoch_and_a_step_may_be_the_best(policy, pairs, tmp_path: Path) -> None:
    asked: list[str] = []

    def dev_reward(name: str) -> float:
        asked.append(name)
        return 0.9 if name == "dpo-1/epoch-2.4" else 0.6

    guard = FREE.replace(dev_every_steps=2, patience=3)
    done = round_of(policy, pairs, tmp_path, dev_reward, guard)
    # Three steps an epoch: the sixth is an epoch's last, and the check of the epoch stands for it.
    checks = ["1.2", "1", "2.4", "2", "3.8", "3"]
    assert asked == [f"dpo-1/epoch-{check}" for check in checks]
    assert done.fired == "after epoch 3, no better dev check for 3 in a row"
    assert (done.best_epoch, done.dev_reward) == (2, 0.9)
    with Run.open(tmp_path, RECIPE) as run:
        assert run.done("dpo-1")["metrics"]["best_step"] == 4
        assert len(run.logged("dpo-1")) == 9


def test_a_check_within_an_epoch_that_was_interrupted_is_made_again(
    policy, pairs, model: Path, tmp_path: Path
) -> None:
    guard = FREE.replace(dev_every_steps=2)
    rewards = {"dpo-1/epoch-1.2": 0.6, "dpo-1/epoch-2.4": 0.7}

    def interrupted(name: str) -> float:
        if name == "dpo-1/epoch-3":
            raise KeyboardInterrupt
        return rewards.get(name, 0.5)

    with pytest.raises(KeyboardInterrupt):
        round_of(policy, pairs, tmp_path, interrupted, guard)
    calm, resumed = (
        round_of(load_learner(model, dtype="float32"), pairs, directory, lambda n: rewards.get(n, 0.5), guard)
        for directory in (tmp_path / "calm", tmp_path)
    )
    assert resumed == calm and calm.dev_reward == 0.7
    models = [
        (directory / "stages" / "dpo-1" / "model" / "model.safetensors").read_bytes()
        for directory in (tmp_path / "calm", tmp_path)
    ]
    assert models[0] == models[1]
