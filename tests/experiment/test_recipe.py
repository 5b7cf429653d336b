"""Recipes: defaults, overrides, and an error for every way of getting one wrong."""

from pathlib import Path

import pytest
import yaml

from eto.errors import InputError, RecipeError
from eto.experiment.recipe import load_recipe, parse_recipe, recipe_diff, recorded, resolved_yaml

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = "name: small\nenvironment:\n  name: toy\n"


def error_of(text, overrides=()):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides, source="f.yaml")
    return caught.value


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_load_and_round_trip(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert parse_recipe(resolved_yaml(recipe)) == recipe


def test_defaults_are_the_papers():
    recipe = parse_recipe(SMALL)
    assert (recipe.method.sft.epochs, recipe.method.sft.learning_rate, recipe.method.sft.batch_size) == (
        3,
        1e-5,
        64,
    )
    assert (recipe.method.dpo.epochs, recipe.method.dpo.learning_rate, recipe.method.dpo.beta) == (
        3,
        1e-6,
        0.1,
    )
    assert (
        recipe.method.dpo.sft_weight == 0
        and recipe.method.contrast.turns == "all"
        and recipe.method.contrast.margin_turns == 5
    )
    assert recipe.directory == Path("runs/small")


def test_every_field_says_what_it_is():
    def undescribed(section):
        for name, field in section.model_fields.items():
            if not field.description:
                yield name
            inner = getattr(field.annotation, "model_fields", None)
            if inner:
                yield from undescribed(field.annotation)

    assert list(undescribed(type(parse_recipe(SMALL)))) == []


def test_overrides_reach_every_depth_and_read_yaml():
    overrides = [
        "method.sft.learning_rate=2e-4",
        "model.lora.rank=4",
        "environment.options.kinds=[a, b]",
        "seed=7",
    ]
    recipe = parse_recipe(SMALL, overrides)
    assert recipe.method.sft.learning_rate == 2e-4
    assert recipe.model.lora is not None and recipe.model.lora.rank == 4
    assert recipe.environment.options == {"kinds": ["a", "b"]}
    assert recipe.seed == 7


def test_overrides_of_a_text_are_not_there_when_it_is_read_again():
    text = SMALL + "method: {sft: {epochs: 2}}\n"
    assert parse_recipe(text, ["method.sft.epochs=5", "seed=7"]).method.sft.epochs == 5
    again = parse_recipe(text)
    assert (again.method.sft.epochs, again.seed) == (2, 0)


def test_a_later_override_wins_and_null_takes_back():
    assert parse_recipe(SMALL, ["seed=1", "seed=2"]).seed == 2
    assert parse_recipe(SMALL + "model: {lora: {rank: 4}}\n", ["model.lora=null"]).model.lora is None


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "1E-4", "0.0001"])
def test_all_spellings_of_a_number(number):
    assert (
        parse_recipe(f"{SMALL}method:\n  sft:\n    learning_rate: {number}\n").method.sft.learning_rate
        == 1e-4
    )


def test_recipes_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse_recipe(SMALL).seed = 3


def test_unknown_key_names_line_field_and_neighbour():
    error = error_of(SMALL + "method:\n  sft:\n    epoch: 3\n")
    assert error.where == "f.yaml:6: method.sft.epoch"
    assert error.problem == "unknown key" and error.hint == "did you mean method.sft.epochs?"


def test_unknown_key_in_the_wrong_section():
    assert "method.sft.learning_rate or method.dpo.learning_rate" in error_of(SMALL, ["learning_rate=1"]).hint
    assert "known here: rank, alpha" in error_of(SMALL, ["model.lora.zzz=1"]).hint


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("method.sft.epochs=two", "must be a whole number, but is 'two'"),
        ("method.sft.epochs=true", "must be a whole number"),
        ("method.sft.epochs=2.5", "must be a whole number"),
        ("method.sft.learning_rate=fast", "must be a number"),
        ("method.sft.learning_rate=null", "must be a number"),
        ("method.contrast.repeats=1", "must be true or false"),
        ("method.contrast.turns=al", "'all', 'from_divergence' or 'window'"),
        ("method.dpo.beta=0", "greater than 0"),
        ("method=3", "must be a mapping"),
        ("name=a/b", "pattern"),
    ],
)
def test_wrong_value_says_what_is_allowed(override, problem):
    error = error_of(SMALL, [override])
    assert problem in error.problem
    assert error.where == f"override {override}: {override.split('=')[0]}"


@pytest.mark.parametrize("override", ["foo", "=3", "a..b=1", ".=1", "method.sft.epochs.x=3", "seed=["])
def test_malformed_override(override):
    assert "override" in error_of(SMALL, [override]).where


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["method.contrast.turns=window"], "window needs method.contrast.window"),
        (["method.contrast.window=3"], "no meaning with turns: all"),
        (["method.explore.samples=4"], "needs method.explore.temperature above 0"),
        (["method.dpo.loss=ipo", "method.dpo.label_smoothing=0.1"], "no meaning with loss: ipo"),
        (["tasks.dev_per_kind=0"], "needs dev tasks"),
        (["tasks.experts_per_kind=1"], "set method.contrast.agent_pairs to true"),
        (
            [
                *("tasks.experts_per_kind=0", "method.contrast.agent_pairs=true"),
                *(
                    "method.explore.samples=2",
                    "method.explore.temperature=1",
                    "method.dpo.rehearsal_weight=1",
                ),
            ],
            "method.dpo.rehearsal_weight has no effect without experts",
        ),
        (
            ["method.guard.dev_every_epoch=false", "method.guard.patience=1"],
            "needs method.guard.dev_every_epoch",
        ),
    ],
)
def test_values_that_do_not_go_together(overrides, problem):
    assert problem in error_of(SMALL, overrides).problem


def test_several_mistakes_are_all_told():
    text = str(error_of("name: x\nmethod:\n  sft:\n    epoch: 3\n    learning_rate: fast\n"))
    assert all(part in text for part in ("3 fields", "environment: is missing", "f.yaml:4", "f.yaml:5"))


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("name: x\nsft: [1,\n  2\nseed: 2\n", "f.yaml:4", "flow sequence that starts in line 2"),
        ("name: x\n\tseed: 2\n", "f.yaml:2", "not valid YAML"),
        ("name: x\nname: y\n", "f.yaml:2: name", "given twice"),
        ("", "f.yaml", "is empty"),
        ("- a\n", "f.yaml", "not a mapping"),
    ],
)
def test_files_that_are_no_recipe(text, where, problem):
    error = error_of(text)
    assert error.where == where and problem in error.problem


def test_file_errors_name_the_file(tmp_path):
    with pytest.raises(InputError, match=r"missing\.yaml.*cannot read"):
        load_recipe(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(InputError, match="not UTF-8"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "typo.yaml").write_text(SMALL + "sed: 3\n")
    with pytest.raises(RecipeError, match=r"typo\.yaml:4: sed.*unknown key"):
        load_recipe(tmp_path / "typo.yaml")


def test_diff_lists_changed_added_and_removed_fields():
    old = parse_recipe(SMALL, ["environment.options.a=1"])
    new = parse_recipe(SMALL, ["method.sft.epochs=5", "environment.options.b=null"])
    assert recipe_diff(old, old) == []
    assert sorted(recipe_diff(old, new)) == [
        "environment.options.a: 1 -> (absent)",
        "environment.options.b: (absent) -> null",
        "method.sft.epochs: 3 -> 5",
    ]
    assert recipe_diff(yaml.safe_load(resolved_yaml(old)), old) == []


def test_a_recorded_recipe_of_an_earlier_version_has_the_defaults_of_fields_it_did_not_know():
    recipe = parse_recipe("name: a\nenvironment: {name: scienceworld}\n")
    text = resolved_yaml(recipe)
    earlier = "".join(line for line in text.splitlines(True) if "patience" not in line)
    assert earlier != text
    assert recipe_diff(recorded(earlier), recipe) == []
    unknown = earlier + "gone: 1\n"
    assert "gone: 1 -> (absent)" in recipe_diff(recorded(unknown), recipe)
