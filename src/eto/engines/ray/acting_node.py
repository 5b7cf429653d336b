"""An engine on a node of the cluster, as an actor of Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eto.engines.opening import Needs, OutsideEngine, open_engine
from eto.engines.ray.greeting import Hello, hello
from eto.engines.ray.weights import Weights, landed
from eto.engines.server.replica import Served
from eto.errors import EngineFailure
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings import RolloutSettings


class ActingNode:
    """A replica's engine: one of this process, or the servers that another engine has on this node."""

    def __init__(self, settings: RolloutSettings, max_context: int, dtype: str, threads: int) -> None:
        self._settings, self._context, self._dtype = settings, max_context, dtype
        self._threads = threads
        self._engine: Any = None
        self._directory: TemporaryDirectory[str] | None = None
        self._logs: TemporaryDirectory[str] | None = None

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
            self._logs = TemporaryDirectory(prefix="eto-engine-")
            self._engine = self._opened(Path(self._logs.name))
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
        for directory in (self._directory, self._logs):
            if directory is not None:
                directory.cleanup()

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
