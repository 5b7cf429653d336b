"""Instructions in two styles and two lengths, experts that think, and answers that say no action."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from playing import how

from eto.engines.scripted import scripted_actor
from eto.environments import load_suite
from eto.environments.textworld_express.suite import GAMES
from eto.environments.toolkit.answers import spoken_action
from eto.errors import InputError
from eto.rollout.experts import collect_experts
from eto.rollout.replay import replay
from eto.rollout.rollouts import rollouts
from eto.types import StopReason

# (suite, options, what the simulator says to a command it does not know; None: the page again)
SUITES = {
    "scienceworld": ({"kinds": ["find-plant", "power-component"]}, "No known action"),
    "textworld-express": ({"game": "coin", "tasks_per_split": 5}, "Unknown action"),
    "webshop": ({"tagger": "words", "products": 40}, None),
}
# Recipes were measured with these; another wording is another experiment.
DEFAULTS = {
    "scienceworld": "You act in a text world. Answer with one action, such as: look around, go to kitchen.",
    "textworld-express": "You play a text game. Answer with one action.",
    "webshop": "You shop online. Actions: search[words] and click[button]. Answer with one action.",
}


def system(suite) -> str:
    first, last = suite.messages(suite.tasks("train")[0], "what is seen")
    assert (first.role, last.role, last.content) == ("system", "user", "what is seen")
    return first.content


@pytest.mark.parametrize("name", SUITES)
def test_four_forms_of_which_the_default_is_act_and_short(name):
    options, _ = SUITES[name]
    texts = {
        (style, prompt): system(load_suite(name, style=style, prompt=prompt, **options))
        for style in ("act", "react")
        for prompt in ("short", "long")
    }
    assert len(set(texts.values())) == 4
    assert system(load_suite(name, **options)) == texts["act", "short"] == DEFAULTS[name]
    for (style, prompt), text in texts.items():
        assert ("\nThought: " in text and "\nAction: " in text) == (style == "react")
        assert len(text) > len(texts[style, "short"]) + 100 or prompt == "short"
    with pytest.raises(InputError, match="one of act, react"):
        load_suite(name, style="cot", **options)
    with pytest.raises(InputError, match="one of short, long"):
        load_suite(name, prompt="longer", **options)


def test_the_long_forms_name_what_the_task_offers():
    def long(kind, **options):
        suite = load_suite("scienceworld", kinds=[kind], prompt="long", **options)
        return system(suite)

    assert "teleport to" in long("boil") and "teleport to" not in long("boil", simplification="")
    assert "connect A" in long("power-component") and "connect A" not in long("boil")
    assert "connect A" in long("boil", simplification="openDoors")
    games = {game: system(load_suite("textworld-express", game=game, prompt="long")) for game in GAMES}
    assert len(set(games.values())) == len(GAMES) and "cookbook" in games["cookingworld"]


@pytest.mark.parametrize("simplification", ["easy", ""])
def test_the_simulator_has_the_actions_that_the_long_prompt_lists(simplification):
    suite = load_suite("scienceworld", kinds="all", simplification=simplification, prompt="long")
    with closing(suite.environment()) as environment:
        for kind in ("boil", "power-component"):
            task = next(task for task in suite.tasks("train") if task.kind == kind)
            environment.reset(task)
            known = {str(action) for action in environment._seat.server.getPossibleActions()}
            told = suite.messages(task, "")[0].content
            for action in known - {"reset task", "go OBJ", "teleport OBJ"}:
                assert action.replace("OBJ", "A", 1).replace("OBJ", "B") in told, action
            assert "go to ROOM" in told
            for action in ("teleport", "connect", "disconnect"):
                assert (f"{action} " in told) == any(each.startswith(f"{action} ") for each in known)


@pytest.mark.parametrize("name", SUITES)
def test_react_experts_think_and_succeed_and_can_be_replayed(name):
    options, _ = SUITES[name]
    suite = load_suite(name, style="react", **options)
    tasks = suite.tasks("train")
    experts = collect_experts(suite, [tasks[1], tasks[-1]], workers=1)
    assert len(experts) == 2 and all(expert.success for expert in experts)
    for action in (action for expert in experts for action in expert.actions):
        thought, label, _ = action.partition("\nAction: ")
        assert label and thought.startswith("Thought: ") and thought.endswith(".") and "{}" not in thought
    settings = how(workers=0, slots=1)
    assert len(replay(experts, suite, **settings).verified) == 2
    plain = load_suite(name, **options)
    assert len(replay(experts, plain, **settings).verified) == 2, "their actions alone"


@pytest.mark.parametrize("game", GAMES)
def test_react_experts_of_every_game(game):
    suite = load_suite("textworld-express", game=game, style="react", tasks_per_split=2)
    assert len(collect_experts(suite, suite.tasks("train"), workers=0)) == 2


def test_the_paper_s_tasks_in_the_paper_s_style(tmp_path):
    for split, number in {"train": 3, "dev": 70, "test": 100}.items():
        pairs = [["task-6-lifespan-(longest-lived)", number]]
        (tmp_path / f"{split}_indices.json").write_text(json.dumps(pairs), encoding="utf-8")
    suite = load_suite("scienceworld-eto", indices=str(tmp_path), style="react", prompt="long")
    assert "\nThought: " in system(suite) and "focus on A" in system(suite)
    [expert] = collect_experts(suite, suite.tasks("train"), workers=1)
    assert expert.actions[0].startswith("Thought: ")
    assert system(load_suite("scienceworld-eto", indices=str(tmp_path))) == DEFAULTS["scienceworld"]


@pytest.mark.parametrize("name", SUITES)
def test_an_answer_without_an_action_is_told_so_and_counts(name):
    options, refusal = SUITES[name]
    suite = load_suite(name, style="react", **options)
    task = suite.tasks("train")[1]
    with closing(suite.environment()) as environment:
        [first, *_] = suite.expert_actions(task, environment)
        page = environment.reset(task)
        bare = spoken_action(first)
        unknown = environment.step("Action: xyzzy")
        assert unknown.observation == page if refusal is None else refusal in unknown.observation
        for malformed in (bare, f"Thought: {bare}", "", "Thought:"):
            assert environment.step(malformed) == unknown
        step = environment.step(f"Action: nothing\nThought: no, rather\nAction: {bare}")
        assert step.observation != page and not (refusal and refusal in step.observation)


def test_turns_without_an_action_run_out():
    suite = load_suite("textworld-express", game="coin", tasks_per_split=2, style="react", max_turns=4)
    policy = scripted_actor(lambda messages: "take coin")
    settings = how(workers=0, slots=1)
    [played] = rollouts(policy, suite, suite.tasks("train")[:1], **settings)
    assert (played.stop, len(played.turns), played.reward) == (StopReason.OUT_OF_TURNS, 4, 0.0)
    assert not played.failed


@pytest.mark.parametrize("name", ["scienceworld", "textworld-express"])
def test_without_thoughts_an_action_is_read_with_and_without_its_label(name):
    options, refusal = SUITES[name]
    suite = load_suite(name, **options)
    with closing(suite.environment()) as environment:
        task = suite.tasks("train")[1]
        seen = []
        for answer in ("look around", "Action: look around", "Thought: I look.\nAction:look around"):
            environment.reset(task)
            seen.append(environment.step(answer).observation)
        assert not any(refusal in observation for observation in seen)
        assert refusal in environment.step("Thought: look around").observation
        if name == "scienceworld":
            assert "cannot be reset" in environment.step("Action: reset task").observation


def test_actions_are_read_from_the_last_label():
    assert spoken_action("go on") == "go on" and spoken_action("go on", "react") == ""
    assert spoken_action("Action: a\naction : b\n", "react") == "b\n"


def test_a_models_thoughts_are_no_action():
    assert spoken_action("<think>\nAction: jump\n</think>\n\ngo on") == "go on"
    assert spoken_action("I could jump\n</think>\n\ngo on") == "go on"
    assert spoken_action("<think>\nAction: a", "react") == spoken_action("<think>\ngo on") == ""


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Thought: Well. Action: take it", "take it"),
        ("Thought: an Action: of sorts.\n Action: go on", "go on"),
        ("Thought: x [SEP] y. Action: look [there]", "look [there]"),
        ("Thought: x. Action: say [Action: no]", "say [Action: no]"),
        ("Action: say live action: yes", "say live action: yes"),
        ("say [live action: yes]", None),
        ("say [Action: yes]", None),
        ("say live action: yes", None),
        ("reaction: none", None),
    ],
)
def test_a_label_within_a_line_is_told_from_an_argument(text, action):
    assert spoken_action(text) == (text if action is None else action)
    assert spoken_action(text, "react") == (action or "")
