"""The bandit suite: contract, texts in three forms, invalid answers, experts, options."""

from __future__ import annotations

import re

import numpy as np
import pytest

from eto.environments import load_suite
from eto.environments.bandit.games import played
from eto.environments.bandit.oracles import LinUcb, Ucb
from eto.environments.bandit.suite import FIRST_SEED
from eto.environments.toolkit.conformance import check_environment
from eto.errors import InputError
from eto.rollout.experts import collect_experts

OWN = ["north", "east", "south", "west"]


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 20},
        {"kinds": ["gaussian-hard-5-clothes"], "horizon": 20, "context": "guided", "style": "react"},
        {"kinds": ["ratings-10"], "horizon": 20},
        {"kinds": ["ratings-10"], "horizon": 20, "context": "guided", "examples": 2},
        {"kinds": ["bernoulli-hard-4-own"], "names": OWN, "horizon": 20, "context": "summary"},
    ],
)
def test_it_keeps_its_contract(options: dict) -> None:
    suite = load_suite("bandit", tasks_per_split=3, **options)
    assert check_environment(suite, count=2) == []


def test_tasks_are_the_papers_types_with_seeds_of_their_own() -> None:
    suite = load_suite("bandit", kinds=["all"], tasks_per_split=2)
    train, dev, test = (suite.tasks(split) for split in suite.splits)
    assert len(train) == 36 and len({task.kind for task in train}) == 18
    assert not {t.payload["seed"] for t in train} & {t.payload["seed"] for t in dev + test}
    horizons = {task.kind: suite.max_turns(task) for task in train}
    assert horizons["bernoulli-easy-20-video"] == 300 and horizons["gaussian-hard-5-clothes"] == 1000
    assert horizons["ratings-30"] == 200
    short = load_suite("bandit", horizon=25)
    assert all(short.max_turns(task) == 25 for task in short.tasks("dev"))
    first, second = (suite.bandit(task) for task in train[:2])
    assert (first.paid != second.paid).any(), "tasks of a type are different instances"


def test_a_raw_history_is_the_conversation() -> None:
    suite = load_suite("bandit", horizon=6)
    task, environment = suite.tasks("train")[0], suite.environment()
    first = environment.reset(task)
    system, user = suite.messages(task, first)
    assert "5 videos: A, B, C, D, E." in system.content and "6 times" in system.content
    assert user.content == first == "Which video?"
    bandit = suite.bandit(task)
    for step, name in enumerate(("B", " b ", "b\n")):  # as in the paper: blanks and capitals do not matter
        answer = environment.step(name)
        assert answer.observation == f"B: reward {bandit.paid[step, 1]:g}." and not answer.afresh


def test_an_answer_without_an_arm_pulls_one_at_random_and_is_no_success() -> None:
    suite = load_suite("bandit", horizon=5)
    task = suite.tasks("train")[0]
    bandit = suite.bandit(task)
    for action in ("F", "", "A B", "the video A"):
        environment = suite.environment()
        environment.reset(task)
        step = environment.step(action)
        arm = int(bandit.stand_ins[0])
        assert step.observation.startswith("Your answer named none of them")
        assert f"{'ABCDE'[arm]}: reward {bandit.paid[0, arm]:g}." in step.observation
        assert step.reward == pytest.approx(bandit.reward([arm]))
        steps = [environment.step("A") for _ in range(4)]
        assert steps[-1].terminated and steps[-1].success is False
    drawn = [int(suite.bandit(task).stand_ins[0]) for task in suite.tasks("train")]
    assert np.bincount(drawn, minlength=5).min() > 15, "of 200, 40 each are expected"


def test_an_episode_ends_with_its_horizon() -> None:
    suite = load_suite("bandit", horizon=5)
    task, environment = suite.tasks("test")[3], suite.environment()
    environment.reset(task)
    steps = [environment.step("C") for _ in range(5)]
    bandit = suite.bandit(task)
    assert [step.terminated for step in steps] == [False] * 4 + [True]
    assert [step.success for step in steps] == [False] * 4 + [True]
    assert steps[-1].reward == bandit.reward([2] * 5) and steps[-1].score == bandit.paid[:, 2].sum()
    best = int(bandit.means[0].argmax())
    strict = load_suite("bandit", horizon=5, success=0.9)
    for arm, won in ((best, True), ((best + 1) % 5, False)):
        environment = strict.environment()
        environment.reset(task)
        assert [environment.step("ABCDE"[arm]) for _ in range(5)][-1].success is won


def test_a_summary_says_how_often_and_how_well() -> None:
    suite = load_suite("bandit", horizon=9, context="summary")
    task, environment = suite.tasks("train")[0], suite.environment()
    assert environment.reset(task) == (
        "9 choices left. So far:\nA: 0 times\nB: 0 times\nC: 0 times\nD: 0 times\nE: 0 times\nWhich video?"
    )
    paid = suite.bandit(task).paid
    for name in "BBD":
        step = environment.step(name)
    assert step.afresh, "the summary takes the place of past turns"
    lines = step.observation.splitlines()
    assert lines[0].startswith("6 choices left.") and lines[1] == "A: 0 times"
    assert lines[2] == f"B: 2 times, average reward {paid[:2, 1].mean():.2f}"
    assert lines[4] == f"D: 1 times, average reward {paid[2, 3]:.2f}"


def test_guidance_holds_the_terms_of_the_index() -> None:
    suite = load_suite("bandit", horizon=9, context="guided", kinds=["gaussian-easy-5-video"])
    task, environment = suite.tasks("train")[0], suite.environment()
    environment.reset(task)
    ucb = Ucb(5)
    for step, arm in enumerate((0, 1, 2, 3, 4, 1)):
        said = environment.step("ABCDE"[arm]).observation
        ucb.learn(None, arm, suite.bandit(task).paid[step, arm])
    read = [tuple(map(float, pair)) for pair in re.findall(r"value (\S+), exploration bonus (\S+)", said)]
    assert read == [pytest.approx(term, abs=0.0051) for term in ucb.terms()]
    # A model that adds both and takes the largest does what the expert does, rounding aside.
    assert int(np.argmax(np.sum(read, axis=1))) == ucb.choose()


def test_guidance_for_users_is_linucbs() -> None:
    suite = load_suite("bandit", horizon=12, context="guided", kinds=["ratings-10"])
    task, environment = suite.tasks("dev")[0], suite.environment()
    environment.reset(task)
    bandit = suite.bandit(task)
    linear = LinUcb(10, bandit.dimensions)
    for step, arm in enumerate((3, 5, 3, 0)):
        said = environment.step(suite.arms(suite.kinds["ratings-10"])[arm]).observation
        linear.learn(bandit.user(step), arm, bandit.paid[step, arm])
    read = [tuple(map(float, pair)) for pair in re.findall(r"value (\S+), exploration bonus (\S+)", said)]
    assert read == [pytest.approx(term, abs=0.0051) for term in linear.terms(bandit.user(4))]


@pytest.mark.parametrize("kind", ["bernoulli-easy-5-clothes", "ratings-10"])
def test_the_expert_is_the_algorithm_and_starts_anew_in_each_episode(kind: str) -> None:
    suite = load_suite("bandit", kinds=[kind], horizon=30, tasks_per_split=4)
    tasks = suite.tasks("train")
    twice = [suite.expert_actions(task) for task in (*tasks, *tasks)]
    assert twice[:4] == twice[4:], "what it learnt in one episode does not reach the next"
    bandit, arms = suite.bandit(tasks[0]), suite.arms(suite.kinds[kind])
    algorithm = LinUcb(10, 5) if kind.startswith("ratings") else Ucb(5)
    assert twice[0] == [arms[arm] for arm in played(bandit, algorithm)]
    experts = collect_experts(suite, tasks, workers=0)
    assert [list(expert.actions) for expert in experts] == twice[:4], "none is sorted out by its luck"
    assert experts[0].reward == bandit.reward([arms.index(action) for action in twice[0]])


def test_a_greedy_expert_stays_with_what_paid() -> None:
    options = {"kinds": ["bernoulli-easy-5-video"], "horizon": 200}
    greedy, ucb = (load_suite("bandit", expert=expert, **options) for expert in ("greedy", "ucb"))
    differs = 0
    for task in greedy.tasks("train")[:20]:
        bandit = greedy.bandit(task)
        pulls = ["ABCDE".index(action) for action in greedy.expert_actions(task)]
        assert pulls == played(bandit, Ucb(5, alpha=0.0))
        differs += bandit.reward(pulls) < bandit.reward(["ABCDE".index(a) for a in ucb.expert_actions(task)])
    assert differs > 5


def test_examples_are_decisions_on_an_instance_that_no_split_has() -> None:
    suite = load_suite("bandit", horizon=20, examples=3, context="summary")
    task = suite.tasks("test")[0]
    system = suite.messages(task, "?")[0].content
    blocks = re.findall(r"Example \d\.\n(.*?)\nAnswer: (\w)", system, re.DOTALL)
    assert [block.splitlines()[0] for block, _ in blocks] == [
        f"{left} choices left. So far:" for left in (18, 16, 14)
    ]
    assert [answer for _, answer in blocks[:2]] == ["C", "E"], "the expert's third and fifth pull"
    raw = load_suite("bandit", horizon=20, examples=2).messages(task, "?")[0].content
    shown = re.findall(r"Example \d\.\n(.*?)\nAnswer: (\w)", raw, re.DOTALL)
    assert [len(re.findall("reward", history)) for history, _ in shown] == [2, 4]
    assert all(seed + 100 < 3_000_000 for seed in FIRST_SEED.values())
    assert "Example" not in load_suite("bandit", horizon=20).messages(task, "?")[0].content


def test_react_answers_are_read_after_their_label() -> None:
    suite = load_suite("bandit", horizon=5, style="react")
    task = suite.tasks("train")[0]
    assert suite.arm(task, "Thought: B was bad.\nAction: C") == 2 and suite.arm(task, "C") is None
    assert suite.expert_actions(task)[0].endswith("\nAction: A")


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        ({"horizon": 4}, "bandit.horizon", "cannot try each of the 5 arms"),
        ({"horizon": 1}, "bandit.horizon", "horizon is 1"),
        ({"kinds": []}, "bandit.kinds", "no task type"),
        ({"kinds": ["bernoulli-easy"]}, "bandit.kinds", "unknown task type"),
        ({"kinds": ["bernoulli-easy-21-clothes"]}, "bandit.kinds", "21 arms"),
        ({"kinds": ["bernoulli-easy-1-video"]}, "bandit.kinds", "1 arm"),
        ({"kinds": ["bernoulli-easy-3-own"]}, "bandit.names", "have no names"),
        ({"kinds": ["bernoulli-easy-3-own"], "names": ["a", "b"]}, "bandit.kinds", "3 arms"),
        ({"kinds": ["bernoulli-easy-2-own"], "names": ["a", " "]}, "bandit.names", "empty name"),
        ({"kinds": ["bernoulli-easy-2-own"], "names": ["a", "A "]}, "bandit.names", "twice"),
        ({"names": ["a", "b"]}, "bandit.names", "no task type takes names"),
        ({"ratings": "somewhere"}, "bandit.ratings", "no task type takes ratings"),
        ({"kinds": ["ratings-10"], "context": "summary"}, "bandit.context", "says nothing about users"),
        ({"context": "whole"}, "bandit.context", "unknown choice"),
        ({"expert": "thompson"}, "bandit.expert", "unknown choice"),
        ({"alpha": -1.0}, "bandit.alpha", "alpha is -1.0"),
        ({"horizon": 6, "examples": 4}, "bandit.examples", "fewer decisions"),
        ({"style": "verse"}, "bandit.style", "verse"),
        ({"tasks_per_split": 0}, "bandit.tasks_per_split", "is 0"),
    ],
)
def test_bad_options_are_named(options: dict, where: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        load_suite("bandit", **options)
    assert error.value.where == where and says in str(error.value) and error.value.hint
