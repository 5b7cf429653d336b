"""Suites by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from eto.environments import load_suite
from eto.environments.hosting import java
from eto.environments.toolkit.options import check_types
from eto.errors import InputError, MissingRequirement


def test_unknown_names_and_options_list_the_known_ones():
    with pytest.raises(InputError, match="gymnasium, openenv, scienceworld"):
        load_suite("sienceworld")
    with pytest.raises(InputError, match="simplification"):
        load_suite("scienceworld", simplifications="easy")


@pytest.mark.parametrize("name", ["scienceworld", "textworld-express"])
def test_a_missing_package_says_how_to_install_it(name, monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda package: None)
    with pytest.raises(MissingRequirement) as error:
        load_suite(name)
    assert f"pip install 'eto-agent[{name}]'" in str(error.value)


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("eto.environments.webshop")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    with pytest.raises(MissingRequirement, match="'rapidfuzz' is not installed") as error:
        load_suite("webshop")
    assert "pip install 'eto-agent[webshop]'" in str(error.value)


def test_listing_tasks_starts_nothing_and_imports_nothing_heavy():
    script = (
        "import sys, eto.environments.hosting.pool, eto.environments.toolkit.conformance\n"
        "from eto.environments import load_suite\n"
        "[load_suite(name).tasks('train') for name in ('scienceworld', 'textworld-express', 'webshop')]\n"
        "print([m for m in ('torch', 'transformers', 'py4j', 'scienceworld') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


RANGES = {"train": [0, 2], "dev": [2, 3], "test": [3, 4]}


@pytest.mark.parametrize(
    ("name", "options", "where", "words"),
    [
        ("webshop", {"products": "many"}, "webshop.products", "an integer"),
        ("webshop", {"seed": True}, "webshop.seed", "an integer"),
        ("gymnasium", {"id": "A-v0", **RANGES, "train": "0-2"}, "gymnasium.train", "a list of integers"),
        ("gymnasium", {"id": "A-v0", **RANGES, "scale": float("nan")}, "gymnasium.scale", "a number"),
        ("gymnasium", {"id": "A-v0", **RANGES, "test": [3, 10**11]}, "gymnasium.test", "at most 1000000"),
        ("gymnasium", {"id": "A-v0", **RANGES, "kwargs": [1]}, "gymnasium.kwargs", "a mapping or null"),
        ("agentgym", {"address": 8000, **RANGES}, "agentgym.address", "text"),
        ("openenv", {"address": "http://x", **RANGES, "rule": "mean"}, "openenv.rule", "last, best, sum"),
    ],
)
def test_options_of_the_wrong_type_are_told_by_name(name, options, where, words):
    with pytest.raises(InputError, match=words) as told:
        load_suite(name, **options)
    assert told.value.where == where and told.value.hint


def test_what_an_annotation_admits():
    def suite(a: int | None, b: Sequence[str] | str, c: float, d: dict[str, int], e: Any, f, g: Missing):  # noqa: F821
        """A suite as another package may write it."""

    good = {"a": None, "b": ("x",), "c": 3, "d": {}, "e": object(), "f": 1}
    check_types(suite, good, "mine")  # `Missing` is nowhere: nothing is checked
    del suite.__annotations__["g"]
    check_types(suite, good, "mine")
    for option, value in {"a": True, "b": [1], "c": "3", "d": []}.items():
        with pytest.raises(InputError, match=f"mine.{option}"):
            check_types(suite, good | {option: value}, "mine")
