"""Fixtures of all tests: passive OpenMP waiting before torch loads, and a tiny model."""

from __future__ import annotations

import os
from pathlib import Path

# Before any test module brings torch in, whichever is collected first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from eto.runtime import configure_threads

configure_threads()


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random Llama with its tokenizer, as `save_pretrained` writes it."""
    from tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_policy(tiny_path: Path):
    """A fresh fp32 policy on the tiny Llama."""
    from eto.policies.transformers import load_policy

    return load_policy(tiny_path, dtype="float32", max_action_tokens=12)
