"""Suites by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eto.environments import java, load_suite
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
        "import sys\n"
        "from eto.environments import load_suite, pool, conformance\n"
        "[load_suite(name).tasks('train') for name in ('scienceworld', 'textworld-express', 'webshop')]\n"
        "print([m for m in ('torch', 'transformers', 'py4j', 'scienceworld') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
