"""Importing the package and asking for help are quick."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ("-c", "import eto"),
        ("-m", "eto", "--help"),
        ("-m", "eto", "run", "--help"),
        ("-m", "eto", "--version"),
    ],
    ids=" ".join,
)
def test_start_takes_less_than_a_second_of_processor_time(words: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)  # compiles what is new
    before = os.times()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = os.times()
    user, system = (
        getattr(after, name) - getattr(before, name) for name in ("children_user", "children_system")
    )
    assert user + system < 1.0


def test_neither_loads_torch() -> None:
    code = "import sys, eto, eto.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
