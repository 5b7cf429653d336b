"""One engine on the cluster, as the driver uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from eto.data.texts import counted
from eto.engines.opening import Needs
from eto.engines.ray.acting_node import ActingNode
from eto.engines.ray.cluster import WHERE
from eto.engines.ray.greeting import SAME, Hello, check_versions, versions
from eto.engines.ray.weights import Weights
from eto.engines.server.replica import Served
from eto.environments.hosting.failures import one_line
from eto.errors import EngineFailure, EtoError
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings import RolloutSettings
from eto.settings.engines import RaySettings

CONTROL_SECONDS = 10.0
"""Longest wait for an actor to end what it has started."""
SEE = "see `ray status` and Ray's logs; the same command goes on where this one stopped"
SHOWN = 300
"""Characters of Ray's reason that are shown."""


class Gone(Exception):
    """The actor is dead, or does not answer in time."""


class RayReplica:
    """Lost, it is `down` and started again in the background, while others take its work. The engine says
    which weights it has to act with: `weights`."""

    def __init__(self, number: int, settings: RolloutSettings, ray: RaySettings, needs: Needs) -> None:
        self.url = f"ray replica {number}"
        self.down = False
        self.sessions: set[str] = set()
        self.under_way = 0
        self.weights: Weights | None = None
        self.mending: asyncio.Task[None] | None = None
        self.met: Hello | None = None
        """Who it is now."""
        self.failure: EngineFailure | None = None
        """Why it is not started again."""
        self._settings, self._ray, self._needs = settings.replace(engine=ray.engine, ray=None), ray, needs
        self._probe: list[int] = []
        self._actor: Any = None
        self._losses = 0

    @property
    def load_now(self) -> int:
        return self.under_way + len(self.sessions)

    async def complete(
        self, ids: Sequence[int], sampling: Sampling, version: int, session: str | None = None
    ) -> Completion | EngineFault | None:
        """Continue `ids`; None where it is lost meanwhile."""
        actor = self._actor
        self.under_way += 1
        try:
            answer = await self._answer(actor.generate.remote(list(ids), sampling, session))
        except Gone as gone:
            self._lose(actor, gone)
            return None
        finally:
            self.under_way -= 1
        if isinstance(answer, EngineFault):
            return EngineFault(f"{self.url}: {answer.problem}", answer.retryable)
        self._losses = 0
        return Completion(answer.ids, answer.log_probs, answer.finish, version)

    async def load(self, weights: Weights) -> None:
        """Act with `weights`; lost on the way, it is mended. Raises `InputError` for weights that cannot be
        used."""
        actor = self._actor
        try:
            await self._give(weights)
        except Gone as gone:
            self._lose(actor, gone)

    async def renew(self, weights: Weights) -> None:
        """Begin again with `weights`, in a new actor."""
        await self._end()
        await self._start()
        await self.load(weights)

    def revive(self) -> None:
        """Try again to start one that was given up: a node may have come."""
        if self.down and self.failure is not None:
            self.failure, self._losses = None, 0
            self.mending = asyncio.get_running_loop().create_task(self._mend())

    async def served(self, probe: Sequence[int]) -> list[Served]:
        """What it makes of the text `probe`; nothing where it is lost meanwhile."""
        actor = self._actor
        try:
            answers = await self._answer(actor.served.remote(list(probe)))
        except Gone as gone:
            self._lose(actor, gone)
            return []
        return [
            Served(f"{self.url} {each.url}".strip(), each.ids, each.scores, each.written) for each in answers
        ]

    async def greet(self, probe: Sequence[int]) -> None:
        """Start it. Raises `InputError` where its node has other versions, `EngineFailure` where it does not
        start."""
        self._probe = list(probe)
        await self._start()

    async def release(self, session: str) -> None:
        self.sessions.discard(session)
        if self._actor is not None and not self.down:
            self._actor.release.remote(session)

    async def sleep(self) -> None:
        with suppress(Gone):
            await self._answer(self._actor.sleep.remote())

    async def close(self) -> None:
        if self.mending is not None:
            self.mending.cancel()
            await asyncio.gather(self.mending, return_exceptions=True)
        await self._end()

    # -- inside -----------------------------------------------------------------------

    async def _answer(self, reference: Any, seconds: float | None = None) -> Any:
        """What an actor answers. Raises `Gone`, and an `EtoError` that it raised there."""
        import ray

        limit = self._ray.seconds if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                return await reference
        except TimeoutError as error:
            raise Gone(f"no answer within {limit:g} s") from error
        except asyncio.CancelledError:
            ray.cancel(reference)
            raise
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EtoError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise Gone(one_line(str(error))[:SHOWN]) from error

    async def _start(self) -> None:
        """A new actor, without weights. Raises `EngineFailure`, `InputError`."""
        import ray

        remote: Any = ray.remote(ActingNode)
        options: dict[str, Any] = {"num_cpus": self._ray.cpus_each, "num_gpus": self._ray.gpus_each}
        options |= {"scheduling_strategy": "SPREAD", "max_concurrency": 10_000}
        threads = max(1, int(self._ray.cpus_each))
        self._actor = remote.options(**options).remote(
            self._settings, self._needs.max_context, self._needs.dtype, threads
        )
        try:
            self.met = await self._answer(self._actor.hello.remote(), self._ray.start_seconds)
        except Gone as gone:
            ray.kill(self._actor)
            self._actor = None
            problem, hint = f"{self.url} does not start: {gone}; {_room(self._ray)}", SEE
            if "No module named" in str(gone.__cause__):
                problem, hint = f"{self.url} does not start: {gone}", SAME
            raise EngineFailure(problem, where=WHERE, hint=hint) from gone
        check_versions(self.met, versions())

    async def _give(self, weights: Weights) -> None:
        load = self._actor.load.remote(weights, self._probe)
        await self._answer(load, max(self._ray.start_seconds, self._ray.seconds))

    def _lose(self, actor: Any, gone: Gone) -> None:
        """Begin to mend it; once for each actor that is lost."""
        if actor is not self._actor or self.down:
            return
        self.down = True
        self.sessions.clear()
        self.mending = asyncio.get_running_loop().create_task(self._mend(gone))

    async def _mend(self, gone: Gone | None = None) -> None:
        """A new actor with the weights that are to act by then; `failure` where there is none."""
        while True:
            if gone is not None:
                self._losses += 1
            await self._end()
            try:
                if gone is not None and self._losses > self._ray.restarts:
                    times = "once" if self._losses == 1 else f"{self._losses} times in a row"
                    problem = f"{self.url} was lost {times}: {gone}"
                    raise EngineFailure(problem, where=WHERE, hint=SEE)
                self._needs.say(f"{self.url} is started again" + (f": {gone}" if gone else ""))
                await self._start()
                while (weights := self.weights) is not None:
                    await self._give(weights)
                    if self.weights is weights:  # no others came meanwhile
                        break
                self.down = False
                return
            except Gone as lost:
                gone = lost
            except EtoError as error:
                await self._end()
                self.failure = EngineFailure(error.problem, where=error.where, hint=error.hint)
                return

    async def _end(self) -> None:
        import ray

        actor, self._actor = self._actor, None
        if actor is None:
            return
        with suppress(Gone, EtoError):  # servers of its own end with it
            await self._answer(actor.close.remote(), CONTROL_SECONDS)
        ray.kill(actor)


def _room(settings: RaySettings) -> str:
    """What a replica needs and the cluster has free."""
    import ray

    free = ray.available_resources()
    taken = f"{counted(settings.cpus_each, 'CPU')} and {counted(settings.gpus_each, 'GPU')}"
    return (
        f"a replica takes {taken} of one node, and the "
        f"cluster has {free.get('CPU', 0):g} and {free.get('GPU', 0):g} free"
    )
