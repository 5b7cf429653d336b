"""YAML that would fill memory, never end or be misread ends in one message, quickly."""

from __future__ import annotations

import os
import time

import pytest

from eto.errors import InputError, RecipeError
from eto.experiment.recipe import load_recipe, parse_recipe, recorded
from eto.experiment.recipe_yaml import read_text, read_yaml, write_yaml

SMALL = "name: small\nenvironment:\n  name: toy\n"
LAUGHS = "x: &x0 [a,a,a,a,a,a,a,a,a]\n" + "".join(
    f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "x: &x0 {a: 1}\n" + "".join(
    f"x{i}: &x{i} {{<<: [{','.join([f'*x{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: " + "[" * 100_000, "levels in one another"),
        ("{a: " * 100_000, "levels in one another"),
        ("".join("  " * i + "a:\n" for i in range(500)), "levels in one another"),
        ("sft: &a\n  epochs: *a\n", "refers to what it is part of"),
        (LAUGHS, "more than 20,000 values"),
        (MERGES, "more than 20,000 values"),
        ("seed: [" + "1," * 50_000 + "]", "more than 20,000 values"),
        ("seed: " + "9" * 5000, "does not fit into 64 bits"),
        ("seed: 0x" + "f" * 50_000, "does not fit into 64 bits"),
        ("seed: 9223372036854775808", "does not fit into 64 bits"),
        ("seed: 1e999", "not a finite number"),
        ("seed: .inf", "not a finite number"),
        ("seed: -.INF", "not a finite number"),
        ("seed: .nan", "not a finite number"),
        ("seed: 010", "octal or decimal"),
        ('seed: "a\\0b"', "NUL"),
        ('seed: "cut \\ud83d"', "an unpaired surrogate"),
        ("seed: \ud83d", "U\\+D83D"),
        ("seed: !!python/object:os.system x", "has no meaning here"),
        ("seed: !!int abc", "has no meaning here"),
        ("seed: !!bool maybe", "has no meaning here"),
        ("seed: !!binary aGk=", "has no meaning here"),
        ("? [a, b]\n: c\n", "a key is a list or a mapping"),
        ("a: [{b: 1, b: 2}]", "given twice"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: *nowhere", "undefined alias"),
        ("a: 1\n\tb: 2\n", "indent with spaces"),
        ("a: \x00", "U\\+0000"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_bombs_and_traps(text, says):
    begin = time.monotonic()
    with pytest.raises(RecipeError, match=says) as caught:
        read_yaml(text, "f.yaml")
    assert time.monotonic() - begin < 10
    assert caught.value.where.startswith("f.yaml") and len(str(caught.value)) < 500
    with pytest.raises(RecipeError):
        parse_recipe(SMALL + text, source="f.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("-1_000", -1000),
        ("0x1f", 31),
        ("0o17", 15),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("yes", True),
        ("null", None),
        ("'010'", "010"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("!!str 5", "5"),
        ("9223372036854775807", 2**63 - 1),
        (".5", 0.5),
        ("0", 0),
    ],
)
def test_what_values_mean(text, value):
    found = read_yaml(f"a: {text}", "f")[0]["a"]
    assert found == value and type(found) is type(value)
    assert read_yaml(write_yaml({"a": found}), "f")[0] == {"a": value}


@pytest.mark.parametrize(
    "text", ["1e5", "1:30", "2026-01-31", "010", "0o7", "yes", "~", "[/b]", "*a", "é: |\n"]
)
def test_text_that_looks_like_something_else_is_written_as_text(text):
    assert read_yaml(write_yaml({"a": text}), "f")[0] == {"a": text}


def test_an_override_changes_one_place_of_what_an_alias_repeats():
    text = SMALL + "method: {sft: &same {epochs: 1}, dpo: *same}\n"
    recipe = parse_recipe(text, ["method.sft.epochs=2"])
    assert (recipe.method.sft.epochs, recipe.method.dpo.epochs) == (2, 1)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("a." * 3000 + "b=1", "levels deep"),
        ("seed=" + "9" * 5000, "64 bits"),
        ("environment.options=" + "[" * 20_000, "levels in one another"),
        ("method.sft={epochs: 1, epochs: 2}", "given twice"),
        ("seed=&a [*a]", "refers to what it is part of"),
        ("name=\udcff", "U\\+DCFF"),
        ("name=no", "must be text, but is False"),
        ("method.sft={1: 2}", "a key must be text"),
        ("name=" + "a" * 300, "at most 200 characters"),
        ("evaluation.bootstrap_resamples=100000000000", "must be at most 1,000,000"),
        ("rollout.slots=1000000000", "must be at most 10,000"),
        ("environment.workers=1000000000", "must be at most 1,024"),
        ("environment.step_seconds=1e300", "must be at most 2,592,000"),
        ("seed=4294967296", "less than or equal to 4294967295"),
    ],
)
def test_overrides_that_cannot_be(override, says):
    with pytest.raises(RecipeError, match=says) as caught:
        parse_recipe(SMALL, [override])
    assert len(str(caught.value)) < 1000 and ":1" not in caught.value.where


def test_files_that_are_none(tmp_path):
    path = tmp_path / "f.yaml"
    reported = {
        b"\xff\xfen\x00": "not UTF-8 text, byte 0",
        b"# \xe9\n": "not UTF-8 text, byte 2",
        b"#" * 2_000_000: "more than 1,000,000 bytes",
    }
    for content, says in reported.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=says):
            load_recipe(path)
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_recipe(path).name == "small"
    (tmp_path / "loop").symlink_to("loop")
    places = {
        tmp_path: ("Is a directory", "give a file"),
        path / "x": ("Not a directory", "a part of the path is a file"),
        tmp_path / "loop": ("symbolic links", "leads back to itself"),
        tmp_path / ("n" * 300): ("name too long", "shorter name"),
        tmp_path / "none": ("No such file", "check the path"),
    }
    for place, (problem, hint) in places.items():
        with pytest.raises(InputError, match=f"(?s){problem}.*hint: .*{hint}"):
            read_text(place)
    if os.geteuid():
        path.chmod(0)
        with pytest.raises(InputError, match=r"(?s)Permission denied.*make it readable"):
            read_text(path)


def test_a_damaged_record_names_its_file():
    with pytest.raises(RecipeError, match=r"run/recipe\.yaml:1: not valid YAML"):
        recorded("a: [", source="run/recipe.yaml")
