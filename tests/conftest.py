"""Fixtures of all tests: passive OpenMP waiting before torch loads, and a tiny model."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before any test module brings torch in, whichever is collected first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Simulators of tests live for seconds, in which Java's optimising compiler takes more than it gives.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

import pytest

from eto.runtime import quiet_libraries  # `eto` itself sets the threads

quiet_libraries()

# A shell that starts tests in the background has them ignore Ctrl-C, nohup a hang-up, and so would every
# process that they start and stop.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long first: with a long file at the end, one of two processes would wait for the other."""
    first = ("end_to_end", "training", "environments")
    items.sort(key=lambda item: next((n for n, name in enumerate(first) if name in item.path.parts), 3))


@pytest.fixture(scope="module", autouse=True)
def settled() -> None:
    """What was collected and imported so far stays to the end: garbage collection, which each stage of a run
    calls, need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_example_left() -> Iterator[None]:
    """Tests import the example, or copies of it, from different places under one name."""
    yield
    sys.modules.pop("countdown", None)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads, and with it that of lanes, for one test."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random Llama with its tokenizer, as `save_pretrained` writes it."""
    from tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_policy(tiny_path: Path):
    """A fresh fp32 policy on the tiny Llama."""
    from eto.training.learner import load_learner

    return load_learner(tiny_path, dtype="float32")
