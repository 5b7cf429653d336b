"""The section `method` of a recipe: the settings of the method of its name, nothing else."""

from __future__ import annotations

from typing import Literal

import pytest

from eto.cli.effect import check_effect
from eto.errors import InputError, RecipeError
from eto.experiment.recipe import Recipe, parse_recipe, resolved_yaml
from eto.methods import METHODS
from eto.protocols import Method
from eto.settings import MethodSettings, SftSettings

SMALL = "name: small\nenvironment: {name: toy}\n"


class LoneSettings(MethodSettings):
    """Cloning, again and again."""

    name: Literal["lone"] = "lone"
    """The method."""
    passes: int = 1
    """How often."""
    sft: SftSettings = SftSettings()
    """Cloning."""

    def needs_dev(self) -> str:
        return "passes" if self.passes > 1 else ""


@pytest.fixture(autouse=True)
def lone(monkeypatch):
    monkeypatch.setitem(
        METHODS, "lone", Method("lone", "cloning again", LoneSettings, METHODS["eto"].train, lambda _: [])
    )


def error_of(text, overrides=()):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(SMALL + text, overrides, source="f.yaml")
    return caught.value


def test_a_method_brings_its_own_settings():
    recipe = parse_recipe(SMALL + "method: {name: lone, passes: 3}\n", ["method.sft.epochs=7"])
    assert isinstance(recipe.method, LoneSettings)
    assert (recipe.method.passes, recipe.method.sft.epochs) == (3, 7)
    assert parse_recipe(resolved_yaml(recipe)) == recipe
    assert Recipe(name="small", environment={"name": "toy"}, method=recipe.method) == recipe


def test_without_a_name_it_is_eto():
    assert (
        parse_recipe(SMALL).method.name == parse_recipe(SMALL, ["method.iterations=1"]).method.name == "eto"
    )


def test_keys_of_another_method_are_unknown():
    error = error_of("method:\n  name: lone\n  dpo: {beta: 1}\n")
    assert (error.where, error.problem) == ("f.yaml:5: method.dpo", "unknown key")
    assert "known here: name, passes, sft" in error.hint
    error = error_of("method:\n  name: lone\n  pases: 2\n")
    assert error.hint == "did you mean method.passes?"


def test_an_unknown_method_is_refused_with_the_nearest_name():
    error = error_of("method:\n  name: lonee\n")
    assert error.where == "f.yaml:4: method.name"
    assert error.problem == "unknown method 'lonee'" and error.hint == "did you mean lone?"
    assert error_of("", ["method.name=etto"]).where == "override method.name=etto: method.name"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("method: eto\n", "must be a mapping"),
        ("method: {name: 3}\n", "must be text"),
        ("method:\n", "mapping"),
    ],
)
def test_what_is_no_method(text, problem):
    assert problem in error_of(text).problem


def test_several_mistakes_inside_and_outside_are_all_told():
    text = str(error_of("method:\n  name: lone\n  passes: x\n  sft: {epochs: 0}\nseed: a\n"))
    assert all(part in text for part in ("3 fields", "f.yaml:5", "f.yaml:6", "f.yaml:7: seed"))


def test_values_above_the_largest_are_refused_in_recipes_alone():
    assert "at most 1,000,000" in error_of("method: {name: lone, sft: {epochs: 1000001}}\n").problem
    assert LoneSettings(sft=SftSettings(epochs=1_000_001)).sft.epochs == 1_000_001


def test_dev_tasks_that_a_method_needs():
    text = "tasks: {dev_per_kind: 0}\nmethod: {name: lone, passes: %d}\n"
    assert parse_recipe(SMALL + text % 1).tasks.dev_per_kind == 0
    assert "method.passes needs dev tasks" in error_of(text % 2).problem


def test_a_command_needs_the_section_it_reads():
    recipe = parse_recipe(SMALL + "method: {name: lone}\n")
    check_effect("sft", recipe, ["method.sft.epochs=1"])
    check_effect("evaluate", recipe, [], split="dev")
    with pytest.raises(InputError, match="the method lone has no settings 'dpo', which `eto dpo` reads"):
        check_effect("dpo", recipe, [])
