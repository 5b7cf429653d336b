"""TextWorld: games made by its own generator and played on its interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from eto.environments import load_suite
from eto.environments.textworld import games as textworld_games
from eto.environments.textworld.games import complete_params, game_files
from eto.environments.textworld.suite import (
    INSTRUCTIONS,
    NOT_UNDERSTOOD,
    game_command,
    observation_text,
    thought,
)
from eto.environments.toolkit.conformance import check_environment
from eto.errors import EnvironmentFailure, InputError, MissingRequirement
from eto.rollout.experts import collect_experts

pytest.importorskip("textworld", reason="TextWorld is not installed: pip install 'eto-agent[textworld]'")

SMALL = {"coin": {"level": 3}, "treasure": {"level": 5}, "cooking": None, "simple": None}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for all of these tests, empty at their beginning; game files are half a megabyte each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ETO_CACHE", str(tmp_path))
    return tmp_path / "textworld"


@pytest.mark.parametrize("game", textworld_games.GAMES)
def test_contract(game):
    suite = load_suite("textworld", game=game, params=SMALL[game], style="react")
    assert check_environment(suite, [suite.tasks("train")[1]]) == []


def play(suite, task):
    environment = suite.environment()
    texts = [environment.reset(task)]
    texts += [environment.step(action).observation for action in suite.expert_actions(task, environment)]
    environment.close()
    return texts


def test_a_seed_gives_the_same_game_in_every_process(fresh_cache):
    options = {"game": "cooking", "params": {"recipe": 2, "take": 2, "go": 6}}
    script = (
        "import sys, json\n"
        "from eto.environments import load_suite\n"
        f"suite = load_suite('textworld', **{options!r})\n"
        "task = suite.tasks('train')[0]\n"
        "environment = suite.environment()\n"
        "texts = [environment.reset(task)]\n"
        "texts += [environment.step(a).observation for a in suite.expert_actions(task, environment)]\n"
        "print(json.dumps(texts))\n"
    )
    path = os.pathsep.join(sys.path)
    for hash_seed in ("1", "2"):
        own = {
            "PYTHONPATH": path,
            "PYTHONHASHSEED": hash_seed,
            "ETO_CACHE": str(fresh_cache.parent / hash_seed),
        }
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | own, capture_output=True, text=True, check=True
        )
        texts = json.loads(done.stdout)
        if hash_seed == "1":
            first = texts
    assert texts == first and "*** The End ***" in texts[-1]
    suite = load_suite("textworld", **options)
    assert play(suite, suite.tasks("train")[1]) != first


def test_splits_have_seeds_of_their_own():
    suite = load_suite("textworld", tasks_per_split=100_000)
    seeds = [task.payload["seed"] for split in suite.splits for task in suite.tasks(split)]
    assert len(set(seeds)) == 300_000 and max(seeds) < textworld_games.ATTEMPT_STRIDE
    assert suite.tasks("dev")[17].id == "textworld/coin/dev/17"


def test_a_game_is_made_once(fresh_cache, monkeypatch):
    made = game_files("coin", {"level": 2}, "steps", 5)
    assert sorted(path.name for path in made.story.parent.iterdir()) == ["game.json", "game.z8"]
    assert [path.name for path in made.story.parents[1].iterdir()] == ["5"], "nothing is left beside it"
    monkeypatch.setattr(textworld_games, "_make", None)
    assert game_files("coin", {"level": 2}, "steps", 5) == made
    with pytest.raises(TypeError):
        game_files("coin", {"level": 2}, "goal", 5)


def _ask(seed: int) -> str:
    return game_files("coin", {"level": 1}, "steps", seed).story.read_bytes().hex()[:40]


def test_processes_that_want_the_same_game_at_the_same_time_get_it(fresh_cache):
    with get_context("spawn").Pool(2) as pool:
        answers = pool.map(_ask, [9, 9], chunksize=1)
    assert answers[0] == answers[1]
    assert len([*fresh_cache.rglob("*.z8")]) == 1


def test_a_damaged_game_is_made_again(fresh_cache):
    suite = load_suite("textworld", params={"level": 1})
    task, environment = suite.tasks("train")[0], suite.environment()
    files = game_files(**task.payload)
    files.description.write_text('{"version": 1')
    with pytest.raises(EnvironmentFailure, match=r"cannot be loaded.*|game\.z8"):
        environment.reset(task)
    assert "-=" in environment.reset(task)
    environment.close()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ETO_CACHE", str(tmp_path / "file"))
    with pytest.raises(MissingRequirement, match="ETO_CACHE"):
        game_files("coin", {"level": 1}, "steps", 0)


def test_the_first_observation_is_the_goal_and_a_room():
    suite = load_suite("textworld", game="simple")
    first = suite.environment().reset(suite.tasks("train")[1])
    assert first.count("$$") == 0 and not first.startswith(("|", "_", " "))
    goal, _, room = first.partition("\n\n")
    assert "stove" in goal and room.startswith("-= Bedroom =-")
    assert first.count("-=") == 1 and not first.endswith((">", "0/1")), "no input mark, no status line"


def test_what_is_stripped_and_what_stays():
    text = "\n\n  ____ \n | $$ \\|  \n\nFind it.\n\n-= Bar =-\nA bar.\n\n\n\nExits.\n\n>       -= Bar =-0/1"
    assert observation_text(text) == "Find it.\n\n-= Bar =-\nA bar.\n\nExits."
    assert observation_text("\nA > B.\n\n>   -= A b =--1/12") == "A > B."
    end = "\n*** The End ***\n\nWould you like to RESTART, RESTORE a saved game?\n>    -= Bar =-0/5"
    assert observation_text(end) == "*** The End ***"


def test_the_goal_alone_tells_no_steps():
    firsts = {}
    for objective in ("steps", "goal"):
        suite = load_suite("textworld", params={"level": 3}, objective=objective)
        firsts[objective] = suite.environment().reset(suite.tasks("train")[1]).split("-=")[0].lower()
    assert "coin" in firsts["steps"] and "coin" in firsts["goal"]
    assert len(firsts["goal"]) < len(firsts["steps"])


def test_rewards_are_shares_of_the_highest_score():
    suite = load_suite("textworld", game="cooking")
    [expert] = collect_experts(suite, suite.tasks("train")[1:2], workers=1)
    rewards = [turn.reward for turn in expert.turns]
    assert rewards == sorted(rewards) and rewards[0] == 0.0 and rewards[-1] == 1.0
    assert {0.25, 0.5, 0.75} <= set(rewards) and expert.score == 4.0
    assert len(expert.turns) <= suite.max_turns(expert.task)


def test_the_wrong_object_loses():
    suite = load_suite("textworld", game="treasure", params={"level": 1})
    environment = suite.environment()
    for task in suite.tasks("train"):
        text = environment.reset(task)
        if found := [
            line for line in text.splitlines() if line.startswith("There is a") and " and a" in line
        ]:
            break
    right = suite.expert_actions(task, environment)[-1].removeprefix("take ")
    floor = found[0].removesuffix(" on the floor.").removeprefix("There is ")
    both = [name.removeprefix("a ").removeprefix("an ") for name in floor.split(" and ")]
    [wrong] = [name for name in both if name != right]
    step = environment.step(f"take {wrong}")
    assert (step.terminated, step.success, step.reward) == (True, False, 0.0)
    assert environment.step("look").observation == "The episode has ended."
    environment.close()


@pytest.mark.parametrize(
    ("answer", "command"),
    [
        ("Go North", "go north"),
        ("go north. go east", "go north"),
        ("go north then go east", "go north"),
        ("look\nlook", "look"),
        ("take king-size bed", "take king-size bed"),
        ("print_state", "print state"),
        ("\x00look\ud800é☃", "look"),
        ("a" * 5000, "a" * 150),
        ("", ""),
    ],
)
def test_one_plain_command_is_sent(answer, command):
    assert game_command(answer) == command


def test_commands_about_the_program_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = load_suite("textworld", params={"level": 3})
    task, environment = suite.tasks("train")[1], suite.environment()
    environment.reset(task)
    for command in (
        "save",
        "SCRIPT on",
        "restart",
        "quit",
        "tw-trace-actions",
        "oops save",
        "restrict commands",
    ):
        assert environment.step(command).observation == NOT_UNDERSTOOD
    assert environment.step("frobnicate").observation == NOT_UNDERSTOOD, "the words are the game's own"
    assert not [*tmp_path.iterdir()]
    steps = [environment.step(action) for action in suite.expert_actions(task, environment)]
    assert steps[-1].success, "the game is as it was"
    environment.close()


def test_styles_and_prompts():
    for style, prompts in INSTRUCTIONS.items():
        for prompt, instruction in prompts.items():
            suite = load_suite("textworld", params={"level": 3}, style=style, prompt=prompt)
            task = suite.tasks("train")[1]
            assert suite.messages(task, "A room.")[0].content == instruction
            first = suite.expert_actions(task, None)[0]
            assert first.startswith("Thought: My way leads" if style == "react" else "go ")
    assert "\nAction: go" in INSTRUCTIONS["react"]["long"]
    assert thought("take raw egg from fridge") == "I need the raw egg."
    assert thought("hum") == "This is the next step."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"game": "chess"}, "known ones: coin"),
        ({"params": {"rooms": 3}}, "known ones: level"),
        ({"params": "level=3"}, "not a mapping"),
        ({"max_turns": 2.5}, "an integer or null"),
        ({"params": {"level": 301}}, "at most 100 rooms"),
        ({"params": {"level": 200}}, "at most 100 rooms"),
        ({"game": "treasure", "params": {"level": "5"}}, "'5'"),
        ({"game": "cooking", "params": {"go": 7}}, "one of 1, 6, 9, 12"),
        ({"game": "cooking", "params": {"recipe": 1, "take": 2}}, "take at most as many"),
        ({"game": "cooking", "params": {"cut": 1}}, "cut is 1"),
        ({"tasks_per_split": 0}, "1 to 100000"),
        ({"max_turns": 0}, "at least 1"),
        ({"reward": "sum"}, "best, final"),
        ({"style": "plain"}, "act, react"),
        ({"objective": "none"}, "steps, goal"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        load_suite("textworld", **options)


def test_parameters_are_completed():
    assert complete_params("cooking", {"cut": True})["recipe"] == 1
    assert complete_params("coin", None) == {"level": 5}


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("eto.environments.hosting.java.find_spec", lambda package: None)
    with pytest.raises(MissingRequirement) as error:
        load_suite("textworld")
    assert "pip install 'eto-agent[textworld]'" in str(error.value)


def test_listing_tasks_does_not_import_the_package():
    script = (
        "import sys\n"
        "from eto.environments import load_suite\n"
        "load_suite('textworld').tasks('train')\n"
        "print('textworld' in sys.modules)\n"
    )
    path = {"PYTHONPATH": os.pathsep.join([str(Path("src").absolute()), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
