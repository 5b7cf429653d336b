"""ScienceWorld on the real simulator: a few short tasks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import psutil
import pytest

from eto.environments import load_suite
from eto.environments.hosting.host import NoExpert, verified_expert
from eto.environments.hosting.pool import EnvironmentPool
from eto.environments.scienceworld.kinds import KINDS, SHORT_KINDS
from eto.environments.scienceworld.suite import ScienceWorld, cut_at_line
from eto.environments.toolkit.conformance import check_environment
from eto.errors import EnvironmentFailure, InputError
from eto.types import Trajectory

WRONG = "focus on agent"


def first_tasks(suite, *kinds):
    """A training task of each type, not the first: variation 0 starts in the right room."""
    tasks = suite.tasks("train")
    return [[task for task in tasks if task.kind == kind][4] for kind in kinds]


@pytest.fixture(scope="module")
def suite():
    return load_suite("scienceworld")


@pytest.fixture(scope="module")
def environment(suite):
    environment = suite.environment()
    yield environment
    environment.close()


def test_splits_are_complete_disjoint_and_those_of_the_simulator(suite):
    everything = load_suite("scienceworld", kinds="all")
    ids = [task.id for split in everything.splits for task in everything.tasks(split)]
    assert len(ids) == len(set(ids)) == 7207 and len(KINDS) == 30
    assert {task.kind for task in suite.tasks("dev")} == set(SHORT_KINDS)
    environment = suite.environment()
    for task in first_tasks(everything, "boil", "find-plant", "grow-fruit", "lifespan-longest-lived"):
        environment.reset(task)
        server = environment._seat.server
        official = server.getVariationsTrain(), server.getVariationsDev(), server.getVariationsTest()
        for split, variations in zip(everything.splits, official, strict=True):
            ours = [t.payload["variation"] for t in everything.tasks(split) if t.kind == task.kind]
            assert ours == list(variations)
    environment.close()


def test_contract(suite):
    tasks = first_tasks(suite, "find-plant", "lifespan-shortest-lived", "chemistry-mix-paint-secondary-color")
    assert check_environment(suite, tasks) == []


def test_the_prompt_states_task_and_start_room(suite, environment):
    (task,) = first_tasks(suite, "find-plant")
    system, user = suite.messages(task, environment.reset(task))
    room = environment._seat.server.freeActionLook().split("called the ")[1].split(".")[0]
    assert "find a(n) plant" in user.content
    assert user.content.endswith(f"\nYou are in the {room}.")
    assert len(system.content) < 100


def test_a_wrong_answer_ends_the_episode_and_keeps_the_best_reward(suite, environment):
    (task,) = first_tasks(suite, "lifespan-longest-lived")
    actions = suite.expert_actions(task, environment)
    environment.reset(task)
    before = environment.step(actions[0])
    assert 0 < before.reward < 1 and before.success is False and not before.terminated
    wrong = environment.step(WRONG)
    assert (wrong.score, wrong.terminated, wrong.success) == (-1.0, True, False)
    assert wrong.reward == before.reward
    assert environment.step("look around").terminated, "an ended episode stays ended"
    environment.reset(task)
    assert environment.step("inventory").score == 0.0, "nothing of it is left"


def test_final_reward_of_a_wrong_answer_is_zero():
    suite = load_suite("scienceworld", reward="final")
    environment = suite.environment()
    (task,) = first_tasks(suite, "lifespan-longest-lived")
    actions = suite.expert_actions(task, environment)
    environment.reset(task)
    assert environment.step(actions[0]).reward > 0
    assert environment.step(WRONG).reward == 0.0
    environment.close()


def test_the_task_cannot_be_reset_by_the_agent(suite, environment):
    (task,) = first_tasks(suite, "lifespan-longest-lived")
    environment.reset(task)
    reached = environment.step("go to kitchen")
    for action in ("reset task", " Reset  Task"):
        step = environment.step(action)
        assert "cannot be reset" in step.observation
        assert (step.reward, step.score, step.terminated) == (reached.reward, reached.score, False)


def test_experts_leave_out_doors_that_are_open_anyway(suite, environment):
    (task,) = first_tasks(suite, "find-plant")
    keeping = load_suite("scienceworld", drop_open_door=False)
    assert any(action.startswith("open door") for action in keeping.expert_actions(task, environment))
    assert not any(action.startswith("open door") for action in suite.expert_actions(task, environment))


def test_an_edited_solution_that_fails_gives_way_to_the_whole_one(environment):
    suite = load_suite("scienceworld", kinds=["identify-life-stages-2"])
    tasks = suite.tasks("train")
    edited = [replayed(environment, task, suite.expert_actions(task, environment)) for task in tasks]
    experts = [verified_expert(suite, environment, task) for task in tasks]
    assert not all(edited), "some need the doors"
    assert all(isinstance(expert, Trajectory) for expert in experts)
    assert all(len(expert.turns) <= suite.max_turns(expert.task) for expert in experts)


def replayed(environment, task, actions):
    """Whether `actions` solve `task`."""
    environment.reset(task)
    return [step := environment.step(action) for action in actions][-1].success and step.terminated


def test_candidates_are_edited_less_and_less_and_then_made_anew(suite):
    door, focus = "open door to kitchen", "focus on apple"
    recorder = Recorder([door, focus])
    (task,) = first_tasks(suite, "find-plant")
    look = "look around"
    once = [[look, focus], [door, look, focus], [door, focus]]
    assert list(suite.expert_candidates(task, recorder)) == once * 2
    assert recorder.asked == 2
    plain = load_suite("scienceworld", look_first=False, drop_open_door=False)
    assert list(plain.expert_candidates(task, recorder)) == [[door, focus]] * 2
    doors = load_suite("scienceworld", simplification="teleportAction", look_first=False)
    closed = doors.tasks("train")[0]
    assert next(doors.expert_candidates(closed, recorder)) == [door, focus], "a shut door stays in"
    assert suite.expert_actions(task, Recorder([])) is None


class Recorder:
    """A simulator as far as solutions go."""

    def __init__(self, actions):
        self.actions, self.asked = actions, 0

    def solution(self, task):
        self.asked += 1
        return list(self.actions)


def test_an_expert_beyond_the_cap_of_turns_is_none_and_told(environment):
    narrow = load_suite("scienceworld", kinds=["lifespan-longest-lived"], max_turns=2)
    found = verified_expert(narrow, environment, narrow.tasks("train")[4])
    assert isinstance(found, NoExpert) and "cap of 2 turns" in found.detail


def test_turn_caps(suite):
    kinds = ["find-plant", "boil", "grow-fruit", "identify-life-stages-1"]
    tasks = first_tasks(load_suite("scienceworld", kinds=kinds), *kinds)
    assert [suite.max_turns(task) for task in tasks] == [15, 100, 70, 40]
    boil = tasks[1]
    assert load_suite("scienceworld", max_turns=7).max_turns(boil) == 7


def test_a_killed_jvm_fails_one_episode_and_spares_its_siblings(suite):
    (task,) = first_tasks(suite, "lifespan-longest-lived")
    earlier = set(psutil.Process().children(recursive=True))
    with EnvironmentPool(suite, workers=1) as pool:
        for slot in (0, 1):
            pool.reset(slot, task)
        answered = []
        while len(answered) < 2:
            answered += pool.poll(60)
        started = set(psutil.Process().children(recursive=True)) - earlier
        [jvm] = [process for process in started if "java" in process.name()]
        jvm.kill()
        jvm.wait(10)
        pool.step(0, "look around")
        [killed] = pool.poll(60)
        assert isinstance(killed.failure, EnvironmentFailure) and not killed.collateral
        assert "JVM died" in str(killed.failure)
        pool.step(1, "look around")
        [sibling] = pool.poll(60)
        assert sibling.failure is not None and sibling.collateral
        pool.reset(0, task)
        [again] = pool.poll(60)
        assert again.observation
    assert set(psutil.Process().children(recursive=True)) <= earlier


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kinds": ["find-plants"]}, "find-plants"),
        ({"kinds": []}, "no task type"),
        ({"kinds": ["boil", "boil"]}, "named twice"),
        ({"kinds": [1]}, "list of texts"),
        ({"kinds": {"boil": 3}}, "list of texts"),
        ({"simplification": "easier"}, "easier"),
        ({"simplification": None}, "simplification"),
        ({"simplification": ["openDoors"]}, "simplification"),
        ({"simplification": "easy,teleportAction"}, "takes easy alone"),
        ({"simplification": "easy,openContainers"}, "openContainers,openDoors"),
        ({"simplification": "openDoors, openDoors"}, "named twice"),
        ({"simplification": "easyopenDoors"}, "unknown one"),
        ({"kinds": ["power-component"], "simplification": "noElectricalAction"}, "electrical"),
        ({"kinds": "all", "simplification": "noElectricalAction"}, "test-conductivity"),
        ({"reward": "sum"}, "sum"),
        ({"reward": True}, "best, final"),
        ({"style": "chat"}, "act, react"),
        ({"prompt": 1}, "short, long"),
        ({"drop_open_door": "no"}, "true or false"),
        ({"look_first": 1}, "true or false"),
        ({"max_turns": 0}, "max_turns"),
        ({"max_turns": "7"}, "an integer or null"),
        ({"max_turns": 7.5}, "max_turns"),
        ({"observation_limit": None}, "observation_limit"),
        ({"observation_limit": True}, "observation_limit"),
        ({"heap_mb": 64}, "heap_mb"),
        ({"recycle_after": 0}, "recycle_after"),
    ],
)
@pytest.mark.parametrize("make", [partial(load_suite, "scienceworld"), ScienceWorld])
def test_bad_options(make, options, words):
    with pytest.raises(InputError, match=words) as told:
        make(**options)
    assert told.value.where.startswith("scienceworld.") and told.value.hint


@pytest.mark.parametrize(
    ("simplification", "kind"),
    [
        ("", "boil"),
        ("easy", "power-component"),
        ("teleportAction, openDoors", "boil"),
        ("openContainers,selfWateringFlowerPots", "power-component"),
        ("noElectricalAction", "boil"),
    ],
)
def test_the_simulator_takes_the_simplifications_we_let_pass(simplification, kind, environment):
    suite = load_suite("scienceworld", kinds=[kind], simplification=simplification)
    environment.reset(suite.tasks("train")[0])
    used = environment._seat.server.getSimplificationsUsed().split(", ")
    if simplification != "easy":
        assert sorted(used) == sorted(name.strip() for name in simplification.split(","))
    else:
        assert "openContainers" not in used and "noElectricalAction" not in used


@pytest.mark.parametrize("simplification", ["easy,teleportAction", "easier"])
def test_the_simulator_refuses_what_we_refuse(simplification, suite, environment):
    (task,) = first_tasks(suite, "find-plant")
    refused = replace(task, payload={**task.payload, "simplification": simplification})
    with pytest.raises(EnvironmentFailure, match="Unknown simplification"):
        environment.reset(refused)


def test_unknown_split(suite):
    with pytest.raises(InputError, match="train, dev, test"):
        suite.tasks("valid")


def test_observations_are_cut_at_line_ends():
    text = "first line\nsecond line\nthird line"
    assert cut_at_line(text, 100) == cut_at_line(text, 0) == cut_at_line(text, len(text)) == text
    assert cut_at_line(text, 30) == "first line\nsecond line ..."
    assert cut_at_line(text, 26) == "first line\nsecond line ..."
    assert cut_at_line(text, 25) == "first line ..."
    assert cut_at_line("x" * 50, 20) == "x" * 16 + " ..."
