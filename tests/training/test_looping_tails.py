"""What plain DPO does to a cloned agent on pairs with looping failures, and what holds it.

Rejected repeats good actions of chosen, so a sum over it pushes exactly these down.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_loop import PAIRED, policy, rows
from tiny import save_tiny, trajectory

from eto.settings import GuardSettings, SftSettings
from eto.training.cloning import sft
from eto.training.preference import dpo, preference
from eto.types import Pair

TRAINING = PAIRED.replace(epochs=10, beta=0.1)
CLONING = SftSettings(
    epochs=25, learning_rate=3e-3, batch_size=4, schedule="constant", warmup_ratio=0.0, dropout=False
)


def looping() -> list[Pair]:
    see = "You see a door."
    made = []
    for number in range(4):
        fields = {"number": number, "prompt": f"Task {number}: find the apple."}
        way = [("look around", see), ("open the door", see), ("go north", see), ("take the apple", "")]
        loop = [("open the door", see), ("go north", see)] * 4
        chosen = trajectory(*way, **fields)
        rejected = trajectory(*loop, reward=0.0, source="sft", **fields)
        made.append(Pair(chosen.task, chosen, rejected, 0))
    return made


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent that has learnt the chosen sides."""
    learner = policy(save_tiny(tmp_path_factory.mktemp("tiny")))
    sft(learner, [pair.chosen for pair in looping()], CLONING)
    directory = tmp_path_factory.mktemp("clone") / "model"
    learner.save(directory)
    return directory


@pytest.fixture(scope="module")
def plain(clone: Path) -> list[dict[str, float]]:
    return rows(preference(policy(clone), looping(), TRAINING))


def test_plain_dpo_loses_what_is_good_while_its_figures_look_well(plain):
    last = plain[-1]
    assert last["accuracy"] == 1.0 and last["margin"] > 5 and last["loss"] < 0.01
    assert last["chosen_drift"] < -5


@pytest.mark.parametrize(
    ("changes", "least"),
    [
        ({"sft_weight": 0.05, "anchor": "sum"}, -0.5),  # beta / 2: the strength of the pull
        ({"loss": "apo_zero"}, -0.5),
        ({"loss": "dpop", "dpop_penalty": 20.0}, -5.0),
        ({"loss": "length_normalised"}, -5.0),
    ],
    ids=["anchor", "apo zero", "dpo positive", "length normalised"],
)
def test_what_holds_chosen(clone, plain, changes, least):
    last = rows(preference(policy(clone), looping(), TRAINING.replace(**changes)))[-1]
    assert last["accuracy"] == 1.0
    assert last["chosen_drift"] > max(least, plain[-1]["chosen_drift"])


def test_a_bound_per_token_fires_long_before_one_on_the_sum(clone, plain):
    steps = {}
    for bounds in ({"max_chosen_drop_per_token": 0.1}, {"max_chosen_drop": 20.0}):
        guard = GuardSettings(**({"max_margin": None, "max_chosen_drop": None} | bounds))
        done = dpo(policy(clone), looping(), TRAINING, guard=guard)
        steps[next(iter(bounds))] = (done.steps, done.figures["chosen_drift"])
    early, late = steps["max_chosen_drop_per_token"], steps["max_chosen_drop"]
    assert early[0] < late[0] and early[1] > late[1]
    assert early[0] <= len(plain) / 2
