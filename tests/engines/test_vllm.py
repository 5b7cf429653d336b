"""The engine of vLLM servers with the real vLLM: `make test-engines`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from real_vllm import (
    CONTEXT,
    Served,
    ask,
    check_equal,
    check_new_weights,
    processes_of,
    prompts,
    vllm_engine,
)
from tiny import save_tiny

from eto.errors import EngineFailure
from eto.protocols import Sampling
from eto.training.learner import load_learner

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]

TINY = {"hidden_size": 128, "num_attention_heads": 4}
"""Of the sizes of heads that vLLM has on a CPU the smallest."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from eto.models.embedded import embedded_model

    directory = tmp_path_factory.mktemp("vllm")
    said: list[str] = []
    engine = vllm_engine(directory, CONTEXT, said)
    try:
        path = embedded_model()
        asyncio.run(engine.load(path))
        yield Served(engine, load_learner(path, dtype="float32"), said)
    finally:
        engine.wait_closed()
    assert not processes_of(engine)


def test_greedy_actions_are_those_of_the_engine_in_this_process(served):
    check_equal(served)


def test_a_stop_id_ends_an_action_and_no_other_id_does(served):
    [ids, *_] = prompts(served.learner)
    [free] = ask(served.engine, [ids])
    [stopped] = ask(served.engine, [ids], Sampling(16, stop=(free.ids[3],)))
    first = free.ids.index(free.ids[3])
    assert (stopped.ids, stopped.finish) == (free.ids[: first + 1], "stop")
    eos = served.learner.tokenizer.eos_token_id
    [on] = ask(served.engine, [[*ids, eos]], Sampling(64, temperature=1.0, seed=2))
    assert (len(on.ids), on.finish) == (64, "length")


def test_a_seed_decides_what_is_drawn(served):
    asked = prompts(served.learner)
    drawn = Sampling(12, temperature=1.0, seed=2**62 + 1)
    alone = [ask(served.engine, [ids], drawn)[0] for ids in asked]
    assert [each.ids for each in ask(served.engine, asked, drawn)] == [each.ids for each in alone]
    assert ask(served.engine, asked[:1], Sampling(12, 1.0, seed=5))[0].ids != alone[0].ids


def test_weights_are_changed(served, tmp_path):
    """Their head is tied to the embeddings."""
    check_new_weights(served, tmp_path / "new")


def test_weights_are_changed_in_the_running_server(tmp_path):
    """A small model with a head of its own; then weights that cannot be taken, which costs no later ones."""
    said: list[str] = []
    engine = vllm_engine(tmp_path, CONTEXT, said)
    model = save_tiny(tmp_path / "model", **TINY)
    try:
        asyncio.run(engine.load(model))
        served = Served(engine, load_learner(model, dtype="float32"), said)
        check_new_weights(served, tmp_path / "new")
        assert engine.replicas[0].generation == 1, "it was started again for that"
        other = save_tiny(tmp_path / "other", **(TINY | {"hidden_size": 256}))
        (other / "config.json").write_bytes((model / "config.json").read_bytes())
        with pytest.raises(EngineFailure, match=r"vllm-0\.log"):
            asyncio.run(engine.load(other))
        assert "started again" in said[-1]
        asyncio.run(engine.load(tmp_path / "new"))
        check_equal(served)
    finally:
        engine.wait_closed()


@pytest.mark.parametrize("victim", ["server", "engine", "all"])
def test_a_server_killed_in_the_midst_is_started_again_and_owes_nothing(served, victim):
    asked = prompts(served.learner, 8)
    undisturbed = ask(served.engine, asked, Sampling(64))
    generation = served.engine.replicas[0].generation
    guard, server, *others = processes_of(served.engine)

    async def disturbed() -> list[Any]:
        requests = [served.engine.generate(ids, Sampling(64), session=str(n)) for n, ids in enumerate(asked)]
        under_way = asyncio.gather(*requests)
        await asyncio.sleep(0.5)
        chosen = {"server": [server], "engine": [others[-1]], "all": [server, *others]}[victim]
        for process in chosen:
            process.kill()
        return await under_way

    assert [each.ids for each in asyncio.run(disturbed())] == [each.ids for each in undisturbed]
    assert served.engine.replicas[0].generation == generation + 1 and "started again" in served.said[-1]
    _, still = psutil.wait_procs([guard, server, *others], timeout=60)
    assert not still


def test_a_server_that_hangs_is_started_again(served):
    """It is alive and its port takes connections, but no answer comes."""
    served.engine.replicas[0].connection._settings = served.engine.replicas[0].settings.replace(seconds=20.0)
    asked = prompts(served.learner, 2)
    undisturbed = ask(served.engine, asked)
    processes = processes_of(served.engine)
    for process in processes[1:]:
        process.suspend()
    assert [each.ids for each in ask(served.engine, asked)] == [each.ids for each in undisturbed]
    _, still = psutil.wait_procs(processes, timeout=60)
    assert not still


DRIVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from real_vllm import (
    CONTEXT,
    Served,
    ask,
    check_equal,
    check_new_weights,
    processes_of,
    prompts,
    vllm_engine,
)
engine = vllm_engine(Path(sys.argv[1]), 128)
asyncio.run(engine.load(Path(sys.argv[2])))
print(engine.replicas[0].process.pid, flush=True)
asyncio.run(asyncio.sleep(1000))
"""


def test_nothing_is_left_of_a_server_whose_driver_was_killed(tmp_path):
    """Killed with -9, it cannot end anything itself."""
    model = save_tiny(tmp_path / "model", **TINY)
    helpers = str(Path(__file__).resolve().parents[1] / "helpers")
    arguments = [sys.executable, "-c", DRIVER, str(tmp_path), str(model), helpers]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        guard = psutil.Process(int(driver.stdout.readline()))
        processes = [guard, *guard.children(recursive=True)]
        assert len(processes) >= 3
        driver.kill()
    _, still = psutil.wait_procs(processes, timeout=60)
    assert not still
