"""TextWorldExpress on the real simulator, all eight games."""

from __future__ import annotations

import pytest

from eto.environments import load_suite
from eto.environments.textworld_express.suite import FIRST_SEED, GAMES, SEEDS_PER_FOLD
from eto.environments.toolkit.conformance import check_environment
from eto.errors import InputError
from eto.rollout.experts import collect_experts


@pytest.mark.parametrize("game", GAMES)
def test_contract(game):
    suite = load_suite("textworld-express", game=game)
    assert check_environment(suite, [suite.tasks("train")[3], suite.tasks("dev")[5]]) == []


def test_tasks_are_the_simulator_s_folds():
    suite = load_suite("textworld-express", game="coin", tasks_per_split=20)
    assert suite.tasks("train")[17].id == "textworld-express/coin/train/17"
    environment = suite.environment()
    environment.reset(suite.tasks("train")[0])
    server = environment._seat.server
    for split, seeds in {
        "train": server.getSeedsTrain(),
        "dev": server.getSeedsDev(),
        "test": server.getSeedsTest(),
    }.items():
        assert list(seeds) == list(range(FIRST_SEED[split], FIRST_SEED[split] + SEEDS_PER_FOLD))
        assert [task.payload["seed"] for task in suite.tasks(split)] == list(seeds)[:20]
    environment.close()


def test_a_wrong_answer_is_an_end_of_reward_at_least_zero():
    rewards = {}
    for rule in ("best", "final"):
        suite = load_suite("textworld-express", game="simonsays", reward=rule)
        environment = suite.environment()
        task = suite.tasks("train")[0]
        actions = suite.expert_actions(task, environment)
        environment.reset(task)
        assert environment.step(actions[0]).reward == 0.25
        wrong = next(action for action in actions if action != actions[1])
        step = environment.step(wrong)
        assert (step.terminated, step.success, step.score) == (True, False, -1.0)
        rewards[rule] = step.reward
        environment.close()
    assert rewards == {"best": 0.25, "final": 0.0}


def test_experts_in_workers_equal_those_in_process():
    suite = load_suite("textworld-express", game="mapreader", tasks_per_split=6)
    here, there = (collect_experts(suite, suite.tasks("test"), workers=workers) for workers in (0, 2))
    assert here == there and len(here) == 6
    assert here[0].actions[0] == "read map", "what the prompt states is not asked for again"
    assert all(len(expert.turns) <= suite.max_turns(expert.task) for expert in here)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"game": "chess"}, "chess"),
        ({"tasks_per_split": 2000}, "at most 1000"),
        ({"tasks_per_split": 0}, "at least 1"),
        ({"reward": "sum"}, "sum"),
        ({"game": ["coin"]}, "text"),
        ({"params": {"numLocations": 3}}, "text or null"),
        ({"max_turns": "9"}, "an integer or null"),
        ({"heap_mb": 32}, "at least 64"),
        ({"style": "chat"}, "act, react"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        load_suite("textworld-express", **options)


def test_parameters_that_the_game_refuses_are_the_user_s_mistake():
    suite = load_suite("textworld-express", game="coin", params="numRooms=3")
    with pytest.raises(InputError, match="numRooms"):
        collect_experts(suite, suite.tasks("train"), workers=1)
    assert suite.max_turns(suite.tasks("train")[0]) == 50
