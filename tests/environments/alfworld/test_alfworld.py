"""ALFWorld over generated games and over game files made of them."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from playing import how

from benchmarks.alfworld_original import logic
from eto.environments import load_suite
from eto.environments.alfworld.dialect import DIALECTS, dialect_of
from eto.environments.alfworld.games import KINDS, Game
from eto.environments.alfworld.generated import generate_game, usable_scenes
from eto.environments.alfworld.house import House, Play
from eto.environments.alfworld.problem import Goal, parse_problem
from eto.environments.alfworld.scenes import load_vocabulary
from eto.environments.toolkit.conformance import check_environment
from eto.errors import InputError, MissingRequirement
from eto.rollout.experts import collect_experts
from eto.rollout.replay import replay

HERE = how(workers=0, slots=2)


def play_of(game: Game, dialect: str = "move") -> Play:
    return Play(House(parse_problem(game.problem, "game"), game.task), DIALECTS[dialect])


def small(kind: str, number: int = 0, split: str = "train") -> Game:
    return generate_game(kind, split, number, seed=0, receptacles=6, objects=5)


@pytest.fixture(scope="module")
def suite():
    return load_suite("alfworld", games=4)


# -- contract -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"style": "react", "prompt": "long", "expert": "planner", "dialect": "put", "arrivals": "drop"},
    ],
)
def test_it_conforms(options):
    suite = load_suite("alfworld", games=2, **options)
    assert check_environment(suite, suite.tasks("train")) == []


@pytest.mark.parametrize("expert", ["handcoded", "planner"])
def test_experts_win_every_generated_game(expert):
    suite = load_suite("alfworld", games=10, expert=expert)
    for split in suite.splits:
        found = collect_experts(suite, suite.tasks(split), workers=0)
        assert len(found) == 60
        assert all(trajectory.success and len(trajectory.turns) <= 20 for trajectory in found)


def test_workers_play_the_same_games(suite):
    [one, two] = (collect_experts(suite, suite.tasks("test"), workers=number) for number in (0, 1))
    assert [t.turns for t in one] == [t.turns for t in two]


# -- generated games ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_generated_games_are_not_won_at_first_and_can_be_read(kind):
    for number in range(20):
        game = small(kind, number)
        assert not play_of(game).won
        assert (game.lamp == "DeskLamp") == (kind == "look_at_obj_in_light")
        assert game.thing.lower() in game.task


def test_test_rooms_are_not_trained_in():
    rooms = {
        split: {scene.number for kind in KINDS for scene, _ in usable_scenes(kind, split)}
        for split in ("train", "dev", "test")
    }
    assert rooms["train"] == rooms["dev"] and len(rooms["train"]) == 96
    assert rooms["test"] == set(load_vocabulary().test_scenes)
    assert not rooms["train"] & rooms["test"]


def test_a_seed_decides_everything_whatever_the_hash_seed():
    script = (
        "from eto.environments.alfworld.generated import generate_game\n"
        "import hashlib\n"
        "games = [generate_game(kind, 'train', 3, 7, 8, 8) for kind in"
        " ('look_at_obj_in_light', 'pick_two_obj_and_place')]\n"
        "print(hashlib.sha256(repr(games).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert generate_game(KINDS[0], "train", 0, 0, 6, 5) != generate_game(KINDS[0], "train", 0, 1, 6, 5)


def test_sizes_are_kept_where_the_task_allows():
    for kind in KINDS:
        for count in (4, 8, 14):
            game = generate_game(kind, "train", 1, 0, count, 20)
            assert len(play_of(game).house.place_of) in range(3, max(count, 5) + 1)


# -- rules --------------------------------------------------------------------------------


def test_admissible_commands_are_those_that_do_something():
    """Whatever is listed is answered; whatever is not listed changes nothing."""
    draw = random.Random(0)
    for kind in KINDS:
        play = play_of(small(kind, 5))
        for _ in range(60):
            listed = play.commands()
            names = list(play.house.names.values())
            made_up = [
                f"take {draw.choice(names)} from {draw.choice(names)}",
                f"move {draw.choice(names)} to {draw.choice(names)}",
                f"heat {draw.choice(names)} with {draw.choice(names)}",
                f"open {draw.choice(names)}",
                f"go to {draw.choice(names)}",
                f"use {draw.choice(names)}",
            ]
            for command in made_up:
                if command not in listed:
                    before = {name: set(found) for name, found in play.facts.items()}
                    assert play.step(command) == "Nothing happens."
                    assert play.facts == before
            assert play.step(draw.choice(listed)) != "Nothing happens."


def test_hands_doors_and_appliances():
    game = small("pick_heat_then_place_in_recep")
    play = play_of(game)
    [oven] = [name for name in play.house.by_name if name.startswith("microwave")]
    assert play.step(f"open {oven}") == "Nothing happens."  # not there yet
    assert play.step(f"go to {oven}") == f"You arrive at {oven}. The {oven} is closed."
    assert play.step(f"go to {oven}") == "Nothing happens."
    assert play.step(f"open {oven}").startswith(f"You open the {oven}. The {oven} is open. In it, you see ")
    assert play.step(f"close {oven}") == f"You close the {oven}."
    assert play.step("inventory") == "You are not carrying anything."
    assert play.step("look") == f"You are facing the {oven}. Next to it, you see nothing."


def test_the_dialects_say_the_same_differently():
    game = small("pick_and_place_simple")
    plays = {name: play_of(game, name) for name in DIALECTS}
    assert len({play.begin() for play in plays.values()}) == 1
    assert "help" in plays["move"].commands() and "help" not in plays["put"].commands()
    told = plays["put"].step(plays["put"].commands()[-3])
    assert plays["put"].step("help") == "Nothing happens."
    assert told.startswith("You arrive at loc ")


def test_arrivals_are_dropped_as_the_authors_do():
    suite = load_suite("alfworld", games=1, dialect="put", arrivals="drop")
    environment = suite.environment()
    for task in suite.tasks("train"):
        actions = suite.expert_actions(task, environment)
        environment.reset(task)
        texts = [environment.step(action).observation for action in actions]
        assert not any("loc " in text for text in texts) and any(text.startswith("On the ") for text in texts)


def test_goals_of_every_form():
    text = """(define (problem p) (:domain alfred) ; a comment
        (:objects a b - object r - receptacle)
        (:init (inReceptacle a r) (= (distance l1 l2) 3) (red a))
        (:goal {}))"""
    facts = {"inreceptacle": {("a", "r")}}

    def holds(goal: str) -> bool:
        problem = parse_problem(text.format(goal), "p")
        return Goal(problem, ["inreceptacle"])(facts)

    assert holds("(exists (?o - object) (inReceptacle ?o r))")
    assert not holds("(forall (?o - object) (inReceptacle ?o r))")
    assert holds("(forall (?o - object) (or (inReceptacle ?o r) (not (red ?o))))")
    assert holds("(exists (?o ?p - object) (and (not (= ?o ?p)) (inReceptacle ?o r)))")
    assert not holds(
        "(exists (?o ?p - object) (and (not (= ?o ?p)) (inReceptacle ?o r) (inReceptacle ?p r)))"
    )
    assert holds("(not (inReceptacle b r))")


# -- game files ---------------------------------------------------------------------------


def tree(root, dialect: str = "move", count: int = 2):
    """The official directories with generated games in them."""
    for split, folder in (("train", "train"), ("dev", "valid_seen"), ("test", "valid_unseen")):
        for kind in KINDS:
            for number in range(count):
                game = small(kind, number, split)
                named = f"{kind}-{game.thing}-None-{game.receptacle or game.lamp}-{number}"
                path = root / folder / named / f"trial_T{number}"
                path.mkdir(parents=True)
                found = {**logic(dialect, game.task), "pddl_problem": game.problem, "solvable": True}
                (path / "game.tw-pddl").write_text(json.dumps(found), encoding="utf-8")
    return root


def lines(path, count: int = 2):
    """One game a line."""
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        for split in ("train", "valid_seen"):
            for kind in KINDS:
                for number in range(count):
                    game = small(kind, number, "train" if split == "train" else "dev")
                    params = {"object_target": game.thing, "parent_target": game.receptacle}
                    params |= {"toggle_target": game.lamp, "object_sliced": False}
                    told = {
                        "id": f"{split}/{kind}-{number}/trial_{number}",
                        "split": split,
                        "task_type": kind,
                    }
                    told |= {"pddl_params": params, "initial_state": game.problem}
                    stream.write(json.dumps({**told, "task_in_grammar": game.task}) + "\n")
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_official_tree(tmp_path, dialect):
    # A folder's name above the data says nothing of a split.
    suite = load_suite("alfworld", data=str(tree(tmp_path / "train" / "movable", dialect)))
    assert [len(suite.tasks(split)) for split in suite.splits] == [12, 12, 12]
    assert check_environment(suite, suite.tasks("test")) == []
    [first, *_] = collect_experts(suite, suite.tasks("train"), workers=0)
    told = [turn.action for turn in first.turns if turn.action.startswith(("put ", "move "))]
    assert all(action.startswith(dialect) for action in told)
    forced = load_suite("alfworld", data=str(tmp_path / "train" / "movable"), dialect="put")
    assert len(collect_experts(forced, forced.tasks("dev"), workers=0)) == 12


def test_games_that_the_original_leaves_out_are_counted(tmp_path):
    tree(tmp_path, count=1)
    spoilt = [
        ("train/pick_and_place_with_movable_recep-Apple-Plate-Fridge-1/trial", {"solvable": True}),
        ("train/pick_and_place_simple-AppleSliced-None-Fridge-1/trial", {"solvable": True}),
        ("train/pick_and_place_simple-Apple-None-Fridge-1/trial", {"solvable": False}),
        ("train/pick_and_place_simple-Apple-None-Fridge-2/trial", {}),
        ("extra/pick_and_place_simple-Apple-None-Fridge-2/trial", {"solvable": True}),
    ]
    for name, told in spoilt:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "game.tw-pddl").write_text(json.dumps(told), encoding="utf-8")
    with pytest.warns(UserWarning, match="1 unsolvable games left out") as told:
        suite = load_suite("alfworld", data=str(tmp_path))
    assert "2 games with movable receptacles or slices" in str(told[0].message)
    assert "1 games not checked to be solvable" in str(told[0].message)
    assert len(suite.tasks("train")) == 6


def test_one_game_a_line(tmp_path):
    suite = load_suite("alfworld", data=str(lines(tmp_path / "games.jsonl.gz")))
    assert check_environment(suite, suite.tasks("train")[::2]) == []
    assert len(collect_experts(suite, suite.tasks("dev"), workers=1)) == 12
    assert suite.tasks("train")[0].id == f"alfworld/train/{sorted(KINDS)[0]}-0/trial_0"


def test_expert_data_of_the_other_dialect_is_translated_and_replayed(tmp_path):
    old = load_suite("alfworld", data=str(tree(tmp_path)), dialect="put", style="react")
    new = load_suite("alfworld", data=str(tmp_path))
    given = collect_experts(old, old.tasks("train"), workers=0)
    extra = replace(given[0].turns[0], action="teleport home")
    spoilt = replace(given[0], turns=(extra, *given[0].turns))
    found = replay([*given, spoilt], new, **HERE)
    assert len(found.verified) == len(given) + 1
    assert found.unknown_words == Counter(teleport=1)
    # one put a game, two in the two games of two objects; lamps are switched on with the same word
    puts = sum(turn.action.count("in/on") for t in given for turn in t.turns)
    assert puts == 12 and found.translated == puts + spoilt.turns[-1].action.count("in/on")
    actions = [turn.action for t in found.verified for turn in t.turns]
    assert not any("in/on" in action for action in actions)
    assert any(action.startswith("Thought:") and "\nAction: move " in action for action in actions)
    for trajectory in found.verified:
        was_put = any("move " in turn.action for turn in trajectory.turns)
        system = trajectory.messages[0].content
        assert (system == new.messages(trajectory.task, "")[0].content) == was_put


@pytest.mark.parametrize(
    ("given", "move", "put"),
    [
        ("put apple 1 in/on desk 2", "move apple 1 to desk 2", "put apple 1 in/on desk 2"),
        ("put apple 1 in desk 2", "move apple 1 to desk 2", "put apple 1 in/on desk 2"),
        ("move  apple 1 to desk 2", "move apple 1 to desk 2", "put apple 1 in/on desk 2"),
        ("toggle desklamp 1", "use desklamp 1", "use desklamp 1"),
        ("go to desk 1", "go to desk 1", "go to desk 1"),
    ],
)
def test_translations(given, move, put):
    assert DIALECTS["move"].translate(given) == (move, True)
    assert DIALECTS["put"].translate(given) == (put, True)


def test_words_no_dialect_knows():
    assert DIALECTS["move"].translate("fly to the moon") == ("fly to the moon", False)


# -- bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"kinds": ["pick_up"]}, "alfworld.kinds"),
        ({"dialect": "old"}, "alfworld.dialect"),
        ({"receptacles": 1}, "alfworld.receptacles"),
        ({"expert": "oracle"}, "alfworld.expert"),
        ({"style": "chat"}, "alfworld.style"),
        ({"kinds": []}, "alfworld.kinds"),
        ({"kinds": ["pick_heat_then_place_in_recep"] * 2}, "alfworld.kinds"),
        ({"kinds": "pick_heat_then_place_in_recep"}, "alfworld.kinds"),
        ({"games": 10**11}, "alfworld.games"),
        ({"games": 2.5}, "alfworld.games"),
        ({"seed": None}, "alfworld.seed"),
        ({"data": 3}, "alfworld.data"),
    ],
)
def test_bad_options(options, where):
    with pytest.raises(InputError) as told:
        load_suite("alfworld", **options)
    assert told.value.where == where


def test_missing_games_say_how_to_get_them(tmp_path):
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="alfworld-download"):
            load_suite("alfworld", data=str(place))


def test_without_the_wheel(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRequirement, match="pip install --no-deps alfworld"):
        load_suite("alfworld")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda found: {**found, "pddl_problem": "(define (problem x"}, "no PDDL problem"),
        (lambda found: {**found, "pddl_problem": "(define (:objects) (:init))"}, "no :goal"),
        (
            lambda found: {**found, "grammar": found["grammar"].replace("Your task", "My task")},
            "names no task",
        ),
        (lambda found: {"solvable": True}, "no pddl_problem"),
    ],
)
def test_a_game_that_cannot_be_read_names_its_file(tmp_path, spoil, problem):
    tree(tmp_path, count=1)
    path = sorted(tmp_path.glob("valid_seen/**/game.tw-pddl"))[0]
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))), encoding="utf-8")
    suite = load_suite("alfworld", data=str(tmp_path))
    with pytest.raises(InputError, match=problem) as told:
        suite.environment().reset(suite.tasks("dev")[0])
    assert path.parent.name in str(told.value)


def test_an_unknown_grammar_is_told():
    with pytest.raises(InputError, match="neither ALFWorld's"):
        dialect_of('template :: "shove {o} at {r}";', "a game")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{}", "no id"), ("[", "no JSON"), ("", "no playable game"), ("\xff", "cannot be read")],
)
def test_bad_lines(tmp_path, text, problem):
    path = tmp_path / "games.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=problem):
        load_suite("alfworld", data=str(path))
