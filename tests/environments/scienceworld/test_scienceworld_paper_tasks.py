"""The ETO paper's choice of ScienceWorld tasks, by index files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eto.environments import load_suite
from eto.environments.scienceworld.kinds import KINDS
from eto.environments.scienceworld.paper_tasks import current_name
from eto.environments.toolkit.conformance import check_environment
from eto.errors import InputError

THEIRS = Path(__file__).resolve().parents[4] / "shared/data/scienceworld"
GOOD = {
    "train": [["task-6-lifespan-(longest-lived)", 3], ["task-6-lifespan-(longest-lived)", 3]],
    "dev": [["task-6-lifespan-(longest-lived)", 70]],
    "test": [["task-3-find-animal", 230]],
}


def write(folder: Path, **changes) -> str:
    for split, pairs in (GOOD | changes).items():
        (folder / f"{split}_indices.json").write_text(json.dumps(pairs), encoding="utf-8")
    return str(folder)


def test_tasks_caps_and_contract(tmp_path):
    suite = load_suite("scienceworld-eto", indices=write(tmp_path))
    [task] = suite.tasks("train")
    assert (task.id, task.environment) == ("scienceworld-eto/lifespan-longest-lived/3", "scienceworld-eto")
    assert [task.payload["variation"] for task in suite.tasks("test")] == [230]
    assert suite.max_turns(task) == 10
    fruit = replace(task, kind="grow-fruit")
    assert suite.max_turns(fruit) == 60, "the paper's, not raised"
    assert check_environment(suite, [task]) == []


def test_training_on_official_dev_tasks_is_told(tmp_path):
    folder = write(tmp_path, train=[["task-1-boil", 0], ["task-1-boil", 15], ["task-1-boil", 1]])
    with pytest.warns(UserWarning, match=r"1 train tasks \(33%\) lie in the official dev split"):
        load_suite("scienceworld-eto", indices=folder)


def test_evaluation_tasks_that_are_trained_on_are_told_and_can_be_dropped(tmp_path):
    folder = write(tmp_path, dev=[*GOOD["dev"], *GOOD["train"][:1]])
    with pytest.warns(UserWarning, match="1 of 2 dev tasks are training tasks too .kept"):
        assert len(load_suite("scienceworld-eto", indices=folder).tasks("dev")) == 2
    with pytest.warns(UserWarning, match="left out"):
        assert len(load_suite("scienceworld-eto", indices=folder, overlap="drop").tasks("dev")) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": [["task-1-fry", 0]]}, "unknown task 'task-1-fry'"),
        ({"train": [["task-1-boil", 30]]}, "boil has no variation 30"),
        ({"test": {"a": 1}}, "cannot be read"),
    ],
)
def test_broken_files_are_named(tmp_path, changes, words):
    with pytest.raises(InputError, match=words) as error:
        load_suite("scienceworld-eto", indices=write(tmp_path, **changes))
    assert "_indices.json" in str(error.value)


@pytest.mark.parametrize(
    ("option", "value"), [("indices", 3), ("overlap", "both"), ("look_first", "no"), ("heap_mb", 1.5)]
)
def test_bad_options(tmp_path, option, value):
    with pytest.raises(InputError) as told:
        load_suite("scienceworld-eto", **({"indices": write(tmp_path)} | {option: value}))
    assert told.value.where == f"scienceworld-eto.{option}"


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match="no train_indices"):
        load_suite("scienceworld-eto", indices=str(tmp_path))


def test_names_of_old():
    assert current_name("task-2a-test-conductivity-of-unknown-substances") in KINDS
    assert current_name("task-9-mendellian-genetics-(known-plant)") == "mendelian-genetics-known-plant"


@pytest.mark.skipif(not THEIRS.is_dir(), reason="the authors' index files are not beside the project")
def test_the_authors_files():
    with pytest.warns(UserWarning) as told:
        suite = load_suite("scienceworld-eto", indices=str(THEIRS))
    assert [len(suite.tasks(split)) for split in suite.splits] == [1483, 194, 211]
    assert len(suite.kinds) == 24
    messages = [str(warning.message) for warning in told]
    assert any("54 of 194 dev tasks are training tasks too" in message for message in messages)
    assert any("lie in the official dev split" in message for message in messages)
    caps = json.loads((THEIRS / "eto_max_steps.json").read_text(encoding="utf-8"))
    assert {current_name(name): cap for name, cap in caps.items()} == {
        kind: KINDS[kind][3] for kind in suite.kinds
    }
