"""The real vLLM in minutes: one server for all of it. `make test-engines-quick`.

The server is started by the engine `vllm`; the engines `server` and `chat` then use the same one as a server
that runs already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from coin_game import save_model, write_recipe
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
from test_servers import SHORT, episodes

from eto.data.formats import read_trajectories
from eto.protocols import Sampling
from eto.training.learner import load_learner
from eto.types import Trajectory

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def coin_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 32, the smallest that vLLM has on a CPU, and a head of its own for tokens."""
    return save_model(tmp_path_factory.mktemp("model"), hidden_size=128)


@pytest.fixture(scope="module")
def started(coin_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server, which ends with this file."""
    said: list[str] = []
    engine = vllm_engine(tmp_path_factory.mktemp("vllm"), CONTEXT, said)
    try:
        asyncio.run(engine.load(coin_model))
        yield Served(engine, load_learner(coin_model, dtype="float32"), said)
    finally:
        engine.wait_closed()
    assert not processes_of(engine)


@pytest.fixture
def served(started: Served, coin_model: Path) -> Served:
    """The server with the untrained weights, whatever was done with it before."""
    asyncio.run(started.engine.load(coin_model))
    started.learner = load_learner(coin_model, dtype="float32")
    return started


@pytest.fixture(scope="module")
def recipe_of(coin_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a recipe of one small run."""
    folder = tmp_path_factory.mktemp("runs")

    def write(name: str, **rollout: Any) -> Path:
        settings = {"slots": 16, "max_action_tokens": 8} | rollout
        path, run = folder / f"{name}.yaml", folder / name
        return write_recipe(path, coin_model, run, **SHORT, rollout=settings)

    return write


def test_weights_are_changed_in_the_running_server(served: Served, tmp_path: Path) -> None:
    """Greedy actions before and after are those of the engine in this process."""
    check_equal(served)
    generation = served.engine.replicas[0].generation
    check_new_weights(served, tmp_path / "new")
    assert served.engine.replicas[0].generation == generation, "it was started again for that"


def test_a_whole_run_and_its_agent_behind_chat(served: Served, recipe_of: Any, command: Any) -> None:
    """A run on a server that runs already has the episodes of the run in this process. Its agent, asked in
    text, plays as it does in tokens."""
    [replica] = served.engine.replicas
    there = recipe_of("there", engine="server", server={"urls": [replica.url]})
    command.succeeds("run", there)
    here = recipe_of("here")
    command.succeeds("run", here)
    folder = here.parent
    played = episodes(folder / "here")
    assert played == episodes(folder / "there") and len(played) > 24

    agent = folder / "here" / "stages" / "dpo-1" / "model"
    asyncio.run(served.engine.load(agent))
    asked = recipe_of("chat", engine="chat", chat={"url": replica.url, "model": replica.model})
    in_text, in_ids = folder / "in_text.jsonl", folder / "in_ids.jsonl"
    command.succeeds("explore", "--recipe", asked, "--out", in_text)
    command.succeeds("explore", "--recipe", here, "--model", agent, "--out", in_ids)
    texts, ids = read_trajectories(in_text), read_trajectories(in_ids)
    assert actions(texts) == actions(ids) and len(texts) > 20
    assert all(each.tokenizer is None and each.source == replica.model for each in texts)
    assert all(turn.action_ids is None and turn.log_probs is None for each in texts for turn in each.turns)
    command.succeeds("evaluate", "--recipe", asked, "--split", "test")


def actions(played: list[Trajectory]) -> dict[str, list[str]]:
    return {each.task.id: [turn.action for turn in each.turns] for each in played}


def test_a_server_killed_in_the_midst_is_started_again_and_owes_nothing(served: Served) -> None:
    asked = prompts(served.learner, 8)
    undisturbed = ask(served.engine, asked, Sampling(64))
    processes = processes_of(served.engine)
    generation = served.engine.replicas[0].generation

    async def disturbed() -> list[Any]:
        requests = [served.engine.generate(ids, Sampling(64), session=str(n)) for n, ids in enumerate(asked)]
        under_way = asyncio.gather(*requests)
        await asyncio.sleep(0.05)
        processes[1].kill()
        return await under_way

    assert [each.ids for each in asyncio.run(disturbed())] == [each.ids for each in undisturbed]
    assert served.engine.replicas[0].generation == generation + 1 and "started again" in served.said[-1]
    _, still = psutil.wait_procs(processes, timeout=60)
    assert not still
