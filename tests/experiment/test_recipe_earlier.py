"""Recipes of the earlier form, with the method's sections at the top, are read as what they are now."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import yaml

from eto.errors import RecipeError
from eto.experiment.recipe import parse_recipe, recipe_diff, recipe_of_run, recorded, resolved_yaml
from eto.experiment.recipe_earlier import MOVED, RENAMED

SMALL = "name: small\nenvironment: {name: toy}\n"
EARLIER = """name: small
environment: {name: toy}
sft:
  epochs: 2
  batch_tokens: 1000
explore: {iterations: 1, samples: 2, temperature: 0.7, slots: 32, max_action_tokens: 16}
contrast: {turns: from_parting}
dpo: {batch_pairs: 12, replay_weight: 1.0, beta: 0.2}
guard: {patience: 1}
evaluation: {slots: 32, temperature: 0.1}
"""
PRESENT = """name: small
environment: {name: toy}
rollout: {slots: 32, max_action_tokens: 16}
method:
  name: eto
  iterations: 1
  sft: {epochs: 2, batch_tokens: 1000}
  explore: {samples: 2, temperature: 0.7}
  contrast: {turns: from_divergence}
  dpo: {batch_size: 12, rehearsal_weight: 1.0, beta: 0.2}
  guard: {patience: 1}
evaluation: {temperature: 0.1}
"""


def read(text, overrides=()):
    """The recipe, and the notes that reading it gave."""
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        recipe = parse_recipe(text, overrides, source="f.yaml")
    return recipe, [str(each.message) for each in reported]


def test_it_is_read_as_the_recipe_it_is_with_one_line_of_note():
    recipe, [note] = read(EARLIER)
    assert recipe == parse_recipe(PRESENT)
    assert note.startswith("f.yaml is in the earlier form") and "\n" not in note
    for old, new in (
        ("sft", "method.sft"),
        ("explore.iterations", "method.iterations"),
        ("explore.slots", "rollout.slots"),
        ("evaluation.slots", "rollout.slots"),
        ("explore.max_action_tokens", "rollout.max_action_tokens"),
        ("dpo.batch_pairs", "method.dpo.batch_size"),
        ("dpo.replay_weight", "method.dpo.rehearsal_weight"),
        ("contrast.turns: from_parting", "from_divergence"),
        ("guard", "method.guard"),
    ):
        assert f"{old} as {new}" in note


def test_a_note_names_only_what_was_given():
    _, [note] = read(SMALL + "sft: {epochs: 2}\n")
    assert note.endswith("now write sft as method.sft")
    assert read(PRESENT)[1] == read(SMALL + "evaluation: {temperature: 0.1}\n")[1] == []


def test_overrides_of_the_earlier_form():
    overrides = ["dpo.batch_pairs=12", "dpo.beta=0.2", "contrast.turns=from_parting", "evaluation.slots=3"]
    recipe, [note] = read(PRESENT, overrides)
    assert (recipe.method.dpo.batch_size, recipe.method.dpo.beta, recipe.rollout.slots) == (12, 0.2, 3)
    assert "dpo.batch_pairs as method.dpo.batch_size" in note and "f.yaml" not in note
    assert read(EARLIER, ["rollout.slots=5", "method.dpo.beta=0.3"])[0].method.dpo.beta == 0.3


def test_an_override_of_a_whole_section_replaces_it():
    recipe, [_] = read(EARLIER, ["dpo={replay_weight: 0.5}", "explore={slots: 4, samples: 1}"])
    assert (recipe.method.dpo.rehearsal_weight, recipe.method.dpo.beta) == (0.5, 0.1)
    assert (recipe.rollout.slots, recipe.method.iterations, recipe.method.explore.temperature) == (4, 2, 0.0)


def test_mistakes_name_the_line_that_was_written():
    for text, where in (
        ("sft:\n  epoch: 3\n", "f.yaml:4: method.sft.epoch"),
        ("\ndpo:\n  batch_pairs: none\n", "f.yaml:5: method.dpo.batch_size"),
        ("explore:\n  slots: 0\n", "f.yaml:4: rollout.slots"),
        ("guard: 3\n", "f.yaml:3: method.guard"),
    ):
        with pytest.warns(UserWarning, match="earlier form"), pytest.raises(RecipeError) as caught:
            parse_recipe(SMALL + text, source="f.yaml")
        assert caught.value.where == where
    with pytest.warns(UserWarning, match="earlier form"), pytest.raises(RecipeError) as caught:
        parse_recipe(SMALL, ["sft.epochs=two"], source="f.yaml")
    assert caught.value.where == "override sft.epochs=two: method.sft.epochs"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("sft: {epochs: 2}\nmethod: {sft: {epochs: 3}}\n", "f.yaml:3: sft.epochs"),
        ("explore:\n  slots: 2\nrollout: {slots: 2}\n", "f.yaml:4: explore.slots"),
        ("dpo: {batch_size: 2, batch_pairs: 2}\n", "f.yaml:3: dpo.batch_pairs"),
        ("method: {sft: 3}\nsft: {epochs: 3}\n", "f.yaml:4: sft.epochs"),
    ],
)
def test_a_key_in_both_forms_is_refused(text, where):
    with pytest.raises(RecipeError, match="given twice, also as") as caught:
        parse_recipe(SMALL + text, source="f.yaml")
    assert caught.value.where == where and caught.value.hint.startswith("keep ")


def test_both_forms_side_by_side_are_read_where_no_key_is_twice():
    recipe, [_] = read(SMALL + "sft: {epochs: 2}\nmethod: {sft: {learning_rate: 0.1}, iterations: 0}\n")
    assert (recipe.method.sft.epochs, recipe.method.sft.learning_rate) == (2, 0.1)


def test_a_run_recorded_in_the_earlier_form_is_the_same_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was not written by a person: no note
        assert recipe_diff(recorded(EARLIER), parse_recipe(PRESENT)) == []
        changed = recipe_diff(recorded(EARLIER), parse_recipe(PRESENT, ["method.dpo.beta=0.5"]))
    assert changed == ["method.dpo.beta: 0.2 -> 0.5"]
    written_out = EARLIER.replace("  epochs: 2\n", "  epochs: 2\n  micro_batch_tokens: 1024\n")
    assert recipe_diff(recorded(written_out), parse_recipe(PRESENT)) == []


def test_without_a_note(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(EARLIER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recipe_of_run(tmp_path) == parse_recipe(PRESENT)


def test_names_of_the_present_form_are_all_there():
    values = yaml.safe_load(resolved_yaml(parse_recipe(SMALL)))
    assert not set(values) & set(MOVED)
    for new in RENAMED.values():
        inner = values
        for key in new:
            assert key in inner
            inner = inner[key]
