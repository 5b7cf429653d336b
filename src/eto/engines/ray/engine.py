"""Requests of many episodes, sent to replicas on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from eto.engines.ray.cluster import WHERE, Membership
from eto.engines.ray.replica import RayReplica
from eto.engines.ray.weights import sent
from eto.engines.server.engine import GO_ON, ReplicaEngine
from eto.engines.server.replica import Served, check_weights
from eto.errors import EngineFailure
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings.engines import RaySettings


class RayEngine(ReplicaEngine[RayReplica]):
    """An engine of replicas that hold the same model; see `eto.protocols.Engine`.

    Each request holds all ids of its conversation, so a replica that is lost costs no episode: another one
    answers, or the same one once it is started again.
    """

    def __init__(
        self,
        replicas: Sequence[RayReplica],
        membership: Membership,
        settings: RaySettings,
        *,
        max_context: int,
    ) -> None:
        super().__init__(replicas, max_context=max_context)
        self._membership, self._ray = membership, settings

    async def release(self, session: str) -> None:
        """Its replica frees what it has cached."""
        if not self._closed:
            await self._loop.run(self._release(session))

    async def close(self) -> None:
        """End the replicas, and the connection to the cluster."""
        try:
            await super().close()
        finally:
            self._membership.leave()

    def wait_closed(self) -> None:
        try:
            super().wait_closed()
        finally:
            self._membership.leave()

    # -- in the event loop ------------------------------------------------------------

    async def _release(self, session: str) -> None:
        for replica in self.replicas:
            if session in replica.sessions:
                await replica.release(session)

    async def _complete(
        self, replica: RayReplica, ids: list[int], sampling: Sampling, session: str | None
    ) -> Completion | EngineFault | None:
        return await replica.complete(ids, sampling, self.version, session)

    async def _some_up(self) -> None:
        """Wait until a replica works. Raises `EngineFailure` where none will."""
        while all(replica.down for replica in self.replicas):
            mending = [r.mending for r in self.replicas if r.mending is not None and not r.mending.done()]
            if not mending:
                failures = [r.failure for r in self.replicas if r.failure is not None]
                raise (
                    failures[0] if failures else EngineFailure("no replica is left", where=WHERE, hint=GO_ON)
                )
            await asyncio.wait(mending, return_when=asyncio.FIRST_COMPLETED)

    async def _load(self, source: Path, *, renew: bool) -> None:
        check_weights(source)
        weights = await asyncio.to_thread(sent, source, shared=self._ray.weights == "shared")
        for replica in self.replicas:
            replica.weights = weights  # those that are being mended take them too
            replica.revive()
        await self._some_up()
        await super()._load(weights, renew=renew)
        await self._some_up()

    async def _served(self, probe: list[int]) -> list[Served]:
        answers: list[Served] = []
        while not answers:
            await self._some_up()
            for replica in [replica for replica in self.replicas if not replica.down]:
                answers += await replica.served(probe)
        return answers

    async def _greet(self, probe: list[int]) -> None:
        await self._each("greet", probe)
