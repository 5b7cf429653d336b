"""Every method where something it needs is not there: it says so, and what it recommends works there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from coin_game import save_model

from eto.environments import SUITES
from eto.errors import EtoError, RecipeError
from eto.evaluation import build_results
from eto.experiment.experiment import perform
from eto.experiment.needs import advice, lacking_in, needs_of, unmet, would_work
from eto.experiment.recipe import parse_recipe
from eto.experiment.watch import Silent
from eto.methods import METHODS, load_method
from eto.protocols import Need
from eto.types import StopReason, Task, Trajectory, Turn

LACKING: dict[str, tuple[dict[str, bool | str], Need, str, str, str]]
SECTIONS = ("sft", "rft", "dpo", "kto", "world", "ppo", "critic", "update")
# What the suite is like, what is lacking then, words for it, where that is, and methods that work there.
LACKING = {
    "no experts": (
        {"experts": False},
        Need.EXPERTS,
        "experts of its training tasks",
        "environment needy",
        "practice rft",
    ),
    "restless": (
        {"restless": True},
        Need.REPLAY,
        "answers the same actions alike",
        "environment needy",
        "eto kto",
    ),
    "all won": (
        {"earns": "all"},
        Need.SPREAD | Need.OWN_SPREAD,
        "rewards",
        "own episodes earn 1",
        "rft nat practice",
    ),
    "all lost": (
        {"earns": "none"},
        Need.REWARD | Need.OWN_SPREAD,
        "own episodes",
        "own episodes earn 0",
        "eto nat",
    ),
}


class Heard(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny"), hidden_size=32, intermediate_size=64)


@pytest.fixture(autouse=True)
def needy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "needy", ("needy", "Needy"))


def recipe_of(method: str, options: dict[str, Any], model: Path, run: Path):
    settings: dict[str, Any] = {"name": method}
    known = load_method(method).settings.model_fields
    for section in SECTIONS:
        if section in known:
            settings[section] = {"epochs": 1, "learning_rate": 1e-5, "batch_size": 4}
    if "iterations" in known:
        settings["iterations"] = 2 if "chains" in known else 1
    if "explore" in known:
        settings["explore"] = {"samples": 4, "temperature": 1.0}
    if "monte_carlo" in known:
        settings["monte_carlo"] = {"samples": 1}
    if "group_samples" in known:
        settings["group_samples"] = 1
    values = {
        "name": "needs",
        "run_directory": str(run),
        "model": {"path": str(model), "dtype": "float32"},
        "environment": {"name": "needy", "options": options, "workers": 1},
        "tasks": {"train_per_kind": 4, "dev_per_kind": 1, "test_per_kind": 1},
        "rollout": {"slots": 8, "max_action_tokens": 4},
        "method": settings,
        "evaluation": {"bootstrap_resamples": 100},
    }
    return parse_recipe(yaml.safe_dump(values))


def ran(method: str, condition: str, model: Path, run: Path) -> tuple[str, bool]:
    """What a run said in the end, and whether it trained anything beyond the clone."""
    watch = Heard()
    try:
        perform(recipe_of(method, LACKING[condition][0], model, run), watch=watch)
    except EtoError as error:
        return str(error), False
    agents = set(build_results(run)["splits"]["test"]["agents"])
    return "\n".join(watch.said), method in ("sft", "best_of_n") or agents != {"sft"}


def lacking_methods() -> list[tuple[str, str]]:
    return [
        (condition, method)
        for condition, (_, lacking, *_) in LACKING.items()
        for method in METHODS
        if unmet(load_method(method).settings(), lacking)
    ]


@pytest.mark.parametrize(("condition", "method"), lacking_methods())
def test_what_is_not_there_is_named(condition: str, method: str, tiny: Path, tmp_path: Path) -> None:
    _, lacking, words, place, _ = LACKING[condition]
    said, learnt = ran(method, condition, tiny, tmp_path / "run")
    assert not learnt and f"{method} needs " in said
    assert words in said and place in said
    recommended = re.search(r"methods that would work here: ([a-z_, ]+)", said)
    assert recommended and set(recommended[1].split(", ")) == set(would_work(lacking))


@pytest.mark.parametrize(
    ("condition", "method"),
    [(condition, method) for condition, (*_, methods) in LACKING.items() for method in methods.split()],
)
def test_what_is_recommended_works(condition: str, method: str, tiny: Path, tmp_path: Path) -> None:
    assert method in would_work(LACKING[condition][1])
    said, learnt = ran(method, condition, tiny, tmp_path / "run")
    assert learnt and " needs " not in said


def test_lope_with_nothing_to_be_near_to_says_so(tiny: Path, tmp_path: Path) -> None:
    """Neither experts nor own successes: there is no preferred trajectory, and every reward is the same."""
    watch = Heard()
    perform(recipe_of("lope", {"experts": False, "earns": "none"}, tiny, tmp_path / "run"), watch=watch)
    assert "lope needs experts of its training tasks or own episodes that succeed" in watch.said[-1]
    assert "own episodes earn 0, and there are no experts" in watch.said[-1]


def test_estimates_of_all_tasks_need_no_task_with_two_rewards(tiny: Path, tmp_path: Path) -> None:
    """OPARL with adapters compares actions by estimates that are fitted over all tasks; without, and in ETO,
    pairs are of one task's episodes."""
    plain = recipe_of("oparl", {"experts": False, "earns": "by task"}, tiny, tmp_path / "plain")
    watch = Heard()
    perform(plain, watch=watch)
    assert "own episodes earn between 0 and 1, those of a task alike, and there are no" in watch.said[-1]
    values = yaml.safe_load(plain.model_dump_json()) | {"run_directory": str(tmp_path / "run")}
    values["model"]["lora"] = {"rank": 4}
    values["method"]["adapters"] = {"least_gap": 0.0}
    del values["method"]["contrast"]
    values["method"]["explore"] = {"samples": 1, "temperature": 1.0}
    perform(parse_recipe(yaml.safe_dump(values)), watch=watch)
    results = build_results(tmp_path / "run")
    assert {"dpo-1", "dpo-2"} <= {stage["stage"] for stage in results["stages"]}, "explorer and executor"
    assert "oparl-1" in results["splits"]["test"]["agents"]


def test_other_settings_of_the_method_itself_are_called_its_defaults() -> None:
    assert ", oparl as by default, " in advice(Need.REPLAY, "oparl") and ", oparl, " in advice(Need.REPLAY)


def test_dev_tasks_are_missed_when_the_recipe_is_read() -> None:
    text = "{name: a, environment: {name: needy}, tasks: {dev_per_kind: 0}, method: {name: %s}}"
    names = would_work(Need.DEV)
    assert "rft" in names and "eto" not in names
    for method in METHODS:
        if method in names:
            parse_recipe(text % method)
        else:
            with pytest.raises(RecipeError, match=f"needs dev tasks.*work here: {', '.join(names)}"):
                parse_recipe(text % method)


def test_methods_of_other_packages_are_recommended_by_what_they_say(monkeypatch) -> None:
    """One that says nothing is taken to need experts, and is not recommended."""
    sft = load_method("sft")
    monkeypatch.setitem(METHODS, "mine", replace(sft, name="mine", needs=lambda settings: [Need.REPLAY]))
    monkeypatch.setitem(METHODS, "silent", replace(sft, name="silent", needs=None))
    assert "mine" in would_work(Need.EXPERTS | Need.REWARD) and "mine" not in would_work(Need.REPLAY)
    assert "silent" not in would_work(Need(0))
    assert needs_of(METHODS["silent"], sft.settings()) == (Need.EXPERTS,)


def test_one_of_two_needs_suffices() -> None:
    practice = load_method("practice").settings()
    assert unmet(practice, Need.REWARD | Need.EXPERTS) is None
    assert unmet(practice, Need.REWARD | Need.OWN_SPREAD) == Need.REWARD | Need.OWN_SPREAD


def episode(task: str, reward: float) -> Trajectory:
    stop = StopReason.TERMINATED
    return Trajectory(
        Task(task, "needy", "any", "train"), (), (Turn("go", "", 0.0),), reward, None, stop, "a"
    )


def test_what_episodes_lack() -> None:
    a, b = [episode("t/1", 0.5), episode("t/1", 0.5)], [episode("t/2", 0.0)]
    assert lacking_in([*a, *b]) == Need.REWARD | Need.SPREAD | Need.OWN_SPREAD
    assert lacking_in([*a, *b], by_task=False) == Need.REWARD
    assert lacking_in([*a, *b], least_reward=0.5) == Need.SPREAD | Need.OWN_SPREAD
    assert lacking_in(a, [episode("t/1", 1.0)]) == Need.REWARD | Need.OWN_SPREAD
    assert lacking_in([*a, episode("t/1", 1.0)]) == Need(0)


def test_the_page_lists_what_each_method_declares() -> None:
    page = (Path(__file__).parents[2] / "docs" / "needs.md").read_text()
    for name in METHODS:
        method = load_method(name)
        assert method.needs is not None, f"{name} does not say what it needs"
        needs = [
            " or ".join(str(each.name).lower() for each in need) for need in method.needs(method.settings())
        ]
        assert f"| `{name}` | {'; '.join(needs)} |" in page
