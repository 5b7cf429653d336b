"""Recipes that the package carries: found by name, listed, and written to a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eto.errors import InputError
from eto.experiment.recipe import load_recipe
from eto.experiment.shipped import copy_recipes, recipe_path, shipped_recipes, summary

RECIPES = Path(__file__).parents[2] / "recipes"


def test_all_recipes_are_shipped_each_with_a_summary():
    shipped = shipped_recipes()
    assert {path.read_bytes() for path in shipped.values()} == {
        path.read_bytes() for path in RECIPES.rglob("*.yaml")
    }
    assert {"quickstart", "methods/eto"} <= set(shipped)
    assert summary(shipped["methods/sft"]) == "Cloning alone."
    for name, path in shipped.items():
        assert summary(path).endswith("."), name


def test_a_name_stands_for_the_shipped_recipe_until_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("quickstart", ["seed=3"]).seed == 3
    assert load_recipe("methods/eto").method.name == "eto"
    Path("quickstart").write_text("name: own\nenvironment: {name: bandit}\n", encoding="utf-8")
    assert load_recipe("quickstart").name == "own"


def test_a_missing_recipe_is_told_with_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such recipe here") as caught:
        recipe_path("recipes/methods/eto.yaml")
    assert "give methods/eto," in caught.value.hint
    with pytest.raises(InputError, match="no recipe of this name") as caught:
        recipe_path("quickstrat")
    assert "did you mean quickstart?" in caught.value.hint
    with pytest.raises(InputError, match="cannot read the recipe: No such file"):
        load_recipe("own/none.yaml")


def test_recipes_are_written_as_the_documentation_names_them(tmp_path):
    written = copy_recipes([], tmp_path / "recipes")
    assert len(written) == len(shipped_recipes())
    assert load_recipe(tmp_path / "recipes" / "methods" / "eto.yaml").name == "eto"
    (tmp_path / "recipes" / "quickstart.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        copy_recipes(["bandit", "quickstart"], tmp_path / "recipes")
    assert (tmp_path / "recipes" / "quickstart.yaml").read_text(encoding="utf-8") == "mine"
    copy_recipes(["quickstart"], tmp_path / "recipes", overwrite=True)
    assert load_recipe(tmp_path / "recipes" / "quickstart.yaml").name == "quickstart"
    with pytest.raises(InputError, match="no recipe of this name"):
        copy_recipes(["none"], tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write here"):
        copy_recipes(["quickstart"], tmp_path / "file" / "recipes")


def test_the_command_lists_and_writes(tmp_path):
    def eto(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eto", "recipes", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    listed = eto()
    assert listed.returncode == 0 and "methods/eto " in listed.stdout
    assert eto("quickstart", "--out", "recipes").returncode == 0
    assert (tmp_path / "recipes" / "quickstart.yaml").is_file()
    again = eto("quickstart", "--out", "recipes")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    nowhere = eto("quickstart", "--overwrite")
    assert (nowhere.returncode, "give --out FOLDER" in nowhere.stderr) == (2, True)
