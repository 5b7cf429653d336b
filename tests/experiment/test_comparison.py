"""Parts of a comparison, worked out by hand."""

from __future__ import annotations

import pytest

from eto.errors import InputError
from eto.experiment.comparison import as_many_epochs
from eto.experiment.recipe import Recipe, parse_recipe
from eto.experiment.variants import with_method, with_methods
from eto.methods import METHODS, load_method
from eto.methods.practice import OWN_SUCCESSES, PracticeSettings, controls

EXPLORE = "explore: {samples: 5, temperature: 0.4}"


def recipe(method: str, more: str = "") -> Recipe:
    return parse_recipe(f"name: x\nenvironment: {{name: x}}\nmethod: {{{method}}}\n{more}")


@pytest.mark.parametrize(("rest", "epochs"), [(0, 3), (100, 4), (149, 4), (151, 5), (3000, 33)])
def test_epochs_of_cloning_for_as_many_tokens(rest: int, epochs: int) -> None:
    """Three epochs of 100 tokens, and what the method trains on after it."""
    assert as_many_epochs(3, {"sft": 300, "dpo-1": rest}) == epochs


def test_epochs_of_own_successes() -> None:
    """Two epochs of 100 tokens in two rounds; pairs of 310 more: 2 * (400 + 310) / 400 = 3.55."""
    settings = PracticeSettings(iterations=2, explore={"samples": 3}, rft={"epochs": 2})
    tokens = {"sft": 900, "rft-1": 200, "dpo-1": 300, "rft-2": 200, "dpo-2": 10}
    control = controls(settings, tokens)[OWN_SUCCESSES]
    assert (control.rft.epochs, control.dpo, control.iterations) == (4, None, 2)
    assert control.explore == settings.explore and control.sft == settings.sft
    assert controls(settings.replace(dpo=None), tokens) == {} == controls(settings, {"sft": 900})


def test_another_method_keeps_its_defaults_and_clones_alike() -> None:
    given = recipe(f"name: eto, sft: {{epochs: 7}}, dpo: {{beta: 0.9}}, {EXPLORE}")
    rft, ipr, best = (with_method(given, name).method for name in ("rft", "ipr", "best_of_n"))
    assert rft.sft == ipr.sft == best.sft == given.method.sft
    assert rft.explore == given.method.explore and rft.least_reward == 1.0
    assert ipr.dpo == load_method("ipr").settings().dpo, "not the recipe's, which is another method's"
    assert best.explore.samples == 10, "these are no explorations of training tasks"
    assert with_method(given, "eto").method == given.method
    assert with_method(given, "rft").name == "rft"
    own = with_method(recipe("name: eto, sft: {epochs: 7}"), "rft").method
    assert own.explore == load_method("rft").settings().explore, "the recipe says nothing of exploring"


def test_all_are_those_that_can_run() -> None:
    able, unable = with_methods(recipe("name: sft", "tasks: {dev_per_kind: 0}\n"), ["all"])
    names = {each.method.name for each in able}
    assert {"sft", "rft"} <= names and "eto" in unable and "dev" in unable["eto"]
    assert names | set(unable) == set(METHODS) and not names & set(unable)


def test_a_named_method_that_cannot_run_is_refused() -> None:
    with pytest.raises(InputError, match=r"eto: .*dev"):
        with_methods(recipe("name: sft", "tasks: {dev_per_kind: 0}\n"), ["sft", "eto"])
