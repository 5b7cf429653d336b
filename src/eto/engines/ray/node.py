"""What runs on the nodes of the cluster, each an actor of Ray."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eto.engines.opening import Needs, OutsideEngine, open_engine
from eto.engines.ray.weights import Weights, landed
from eto.engines.server.replica import Served
from eto.environments.hosting.process import Inbox, WorkerProcess
from eto.errors import EngineFailure
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings import RolloutSettings

PACKAGES = ("eto-agent", "torch", "transformers")
"""Their versions decide what an agent writes."""


def versions() -> dict[str, str]:
    """Those of `PACKAGES` here."""
    return {name: metadata.version(name) for name in PACKAGES}


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a new actor is."""

    node: str
    """Ray's id of its node."""
    host: str
    pid: int
    versions: dict[str, str]


def hello() -> Hello:
    """That of this process."""
    import ray

    return Hello(ray.get_runtime_context().get_node_id(), socket.gethostname(), os.getpid(), versions())


class ActingNode:
    """A replica's engine: one of this process, or the servers that another engine has on this node."""

    def __init__(self, settings: RolloutSettings, max_context: int, dtype: str, threads: int) -> None:
        self._settings, self._context, self._dtype = settings, max_context, dtype
        self._threads = threads
        self._engine: Any = None
        self._directory: TemporaryDirectory[str] | None = None

    async def hello(self) -> Hello:
        return hello()

    async def load(self, weights: Weights, probe: Sequence[int]) -> None:
        """Act with `weights`. Raises `EngineFailure`, `InputError`."""
        place = TemporaryDirectory(prefix="eto-weights-")
        directory = await asyncio.to_thread(landed, weights, Path(place.name))
        if self._settings.engine == "in_process":
            await self._load_here(directory)
            place.cleanup()
            return
        if self._engine is None:
            self._engine = self._opened(Path(place.name))
            await self._engine.greet(probe)
        await self._engine.load(directory)
        before, self._directory = self._directory, place  # a server that starts again reads it
        if before is not None:
            before.cleanup()

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, session: str | None
    ) -> Completion | EngineFault:
        answer: Completion | EngineFault = await self._engine.generate(ids, sampling, session=session)
        return answer

    async def served(self, probe: Sequence[int]) -> list[Served]:
        """What the engine makes of the text `probe`, one for each of its servers."""
        if self._settings.engine != "in_process":
            answers: list[Served] = await self._engine.served(probe)
            return answers
        written = await self._engine.generate(probe, Sampling(1))
        if isinstance(written, EngineFault):
            raise EngineFailure(written.problem, where="rollout.ray")
        ids = (*probe, *written.ids)
        scores = self._engine.decoder.score(ids)
        self._engine.decoder.forget_prefix()  # what agents' prompts have in common is worth more
        return [Served("", ids, tuple(scores), written.log_probs[0])]

    async def release(self, session: str) -> None:
        if self._engine is not None:
            await self._engine.release(session)

    async def sleep(self) -> None:
        if self._engine is not None:
            await self._engine.sleep()

    async def close(self) -> None:
        """End what the engine has started; the actor itself is killed by whoever made it."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()
        if self._directory is not None:
            self._directory.cleanup()

    # -- inside -----------------------------------------------------------------------

    async def _load_here(self, directory: Path) -> None:
        import torch

        from eto.engines.in_process import InProcessEngine
        from eto.engines.in_process.acting_model import acting_model
        from eto.engines.in_process.ngram_drafter import NgramDrafter
        from eto.models.dtype import device_of

        if self._engine is not None:
            await self._engine.load(directory)
            return
        torch.set_num_threads(self._threads)
        model = acting_model(directory, device_of(None), getattr(torch, self._dtype))
        self._engine = InProcessEngine(model, max_context=self._context, drafter=NgramDrafter())

    def _opened(self, directory: Path) -> OutsideEngine:
        return open_engine(self._settings, Needs(self._context, self._dtype, directory, print))


class SimulatorNode:
    """A worker process of a pool of simulators, and the lines between the two."""

    def __init__(self, spec: tuple[str, dict[str, Any]], memory_mb: int, path: Sequence[str]) -> None:
        """`path`: where the driver imports from; what of it is here is looked into last."""
        sys.path += [entry for entry in path if entry not in sys.path and os.path.exists(entry)]
        self._inbox = Inbox()
        self._early: dict[int, str] = {}
        self._written = 0
        self._worker = WorkerProcess(spec, self._inbox, memory_mb)

    async def hello(self) -> Hello:
        return hello()

    async def send(self, number: int, line: str) -> None:
        """Request `number`, counted from 0, to the worker process. Ray may deliver calls in another order than
        they were made in; the worker gets them in theirs."""
        self._early[number] = line
        while (due := self._early.pop(self._written, None)) is not None:
            self._worker.write(due)
            self._written += 1

    async def receive(self) -> list[str | None]:
        """What it has answered since, at least one line; None is its end."""
        item = await asyncio.to_thread(self._inbox.get)
        lines = [item[2]]
        while not self._inbox.empty():
            lines.append(self._inbox.get()[2])
        return lines

    async def report(self) -> tuple[str, str]:
        """Of a worker that has ended: how far it was over its limit of memory, or ""; and its exit report."""
        return self._worker.excess, await asyncio.to_thread(self._worker.exit_report)

    async def kill(self, grace: float) -> None:
        await asyncio.to_thread(self._worker.kill, grace)
