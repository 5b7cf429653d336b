"""Requests of many episodes, sent to one or more replicas of a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from eto.engines.event_loop import LoopThread
from eto.engines.server.remedies import SAME_COMMAND
from eto.engines.server.replica import Replica, Served
from eto.engines.server.wire import LARGEST, request_shape
from eto.errors import EngineFailure, InputError
from eto.protocols import Completion, EngineFault, Sampling

FAULTS_IN_A_ROW = 16
"""Answers that cannot be used, without a good one in between, after which no more are asked for."""
GO_ON = f"see to the server; {SAME_COMMAND}"


class Seating(Protocol):
    """What decides which replica a session gets."""

    @property
    def url(self) -> str:
        """Its name in messages."""
        ...

    down: bool
    """Whether it takes no requests."""
    sessions: set[str]

    @property
    def load_now(self) -> int:
        """What there is to do for it."""
        ...


R = TypeVar("R", bound=Seating)


class ReplicaEngine(Generic[R]):
    """An engine of replicas that hold the same model; see `eto.protocols.Engine`.

    A session stays at its replica, where its beginning is cached; a new one goes to the replica with the
    least to do. It has an event loop in a thread of its own, so that connections stay from one call to the
    next.
    """

    def __init__(self, replicas: Sequence[R], *, max_context: int) -> None:
        self.max_context = max_context
        self.version = 0
        self.replicas = list(replicas)
        self._loop = LoopThread("servers")
        self._quiet = asyncio.Condition()
        self._asking, self._loading = 0, False
        self._awake, self._closed = True, False
        self._faults = 0

    @property
    def closed(self) -> bool:
        return self._closed

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion | EngineFault:
        """Continue `ids`. Raises `InputError` for a request that a server refuses, `EngineFailure` where no
        server is left or none gives an answer that can be used."""
        if not ids or sampling.max_tokens < 1:
            raise InputError("a request needs a token of prompt and one to write", where="generate")
        if self._closed or not self._awake:
            return EngineFault("the engine sleeps, or is closed", retryable=False)
        if (room := self.max_context - len(ids)) < 1:
            problem = f"the prompt has {len(ids)} tokens, and the context holds {self.max_context}"
            return EngineFault(problem, retryable=False)
        if room < sampling.max_tokens:
            sampling = Sampling(room, sampling.temperature, sampling.seed, sampling.stop)
        return await self._loop.run(self._generate(list(ids), sampling, session))

    async def load(self, directory: Path) -> None:
        """Give every server the weights in `directory`, as `Engine.load`."""
        await self._loop.run(self._load(Path(directory), renew=False))

    async def renew(self, directory: Path) -> None:
        """Have every server begin again with the weights in `directory`. Raises `EngineFailure` where that
        is not ours to do."""
        await self._loop.run(self._load(Path(directory), renew=True))

    async def served(self, probe: Sequence[int]) -> list[Served]:
        """What each server makes of the text `probe`. Raises `EngineFailure` where one does not answer."""
        return await self._loop.run(self._served(list(probe)))

    async def greet(self, probe: Sequence[int]) -> None:
        """Check that the servers answer, and how; errors as of `Replica.greet` and `check_ids`."""
        await self._loop.run(self._greet(list(probe)))

    async def sleep(self) -> None:
        """Stop the servers that are ours; the others cannot be. No answers until the next `load`."""
        if not self._closed:
            self._awake = False
            await self._loop.run(self._each("sleep"))

    async def release(self, session: str) -> None:
        """Its replica is free for another."""
        for replica in self.replicas:
            replica.sessions.discard(session)

    async def close(self) -> None:
        """End the servers that are ours, and the connections."""
        if not self._closed:
            self._closed = True
            try:
                await self._loop.run(self._each("close"))
            finally:
                self._loop.close()

    def wait_closed(self) -> None:
        """`close`, for callers without an event loop."""
        if not self._closed:
            self._closed = True
            try:
                self._loop.wait(self._each("close"))
            finally:
                self._loop.close()

    # -- in the event loop ------------------------------------------------------------

    async def _generate(
        self, ids: list[int], sampling: Sampling, session: str | None
    ) -> Completion | EngineFault:
        async with self._request():
            if not self._awake:
                return EngineFault("the weights could not be loaded", retryable=False)
            while True:
                await self._some_up()
                replica = self._seat(session)
                answer = await self._complete(replica, ids, sampling, session)
                if answer is None:
                    continue  # another one takes it
                if isinstance(answer, Completion):
                    self._faults = 0
                    return answer
                self._faults += 1
                if self._faults >= FAULTS_IN_A_ROW:
                    raise EngineFailure(
                        f"{self._faults} requests in a row had no answer that can be used; the last: "
                        f"{answer.problem}\n  asked: {request_shape(replica.url, ids, sampling)}",
                        where="rollout.engine",
                        hint=f"{answer.hint}; {SAME_COMMAND}" if answer.hint else GO_ON,
                    )
                return answer

    def _seat(self, session: str | None) -> R:
        """The replica of `session`."""
        up = [replica for replica in self.replicas if not replica.down]
        if not up:
            raise EngineFailure(
                f"no server answers: {', '.join(replica.url for replica in self.replicas)}",
                where="rollout.engine",
                hint="start it again; the same command goes on where this one stopped",
            )
        if session is None:
            return min(up, key=lambda replica: replica.load_now)
        for replica in up:
            if session in replica.sessions:
                return replica
        chosen = min(up, key=lambda replica: replica.load_now)
        chosen.sessions.add(session)
        return chosen

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[None]:
        """Not while weights are loaded."""
        async with self._quiet:
            await self._quiet.wait_for(lambda: not self._loading)
            self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            async with self._quiet:
                self._quiet.notify_all()

    async def _some_up(self) -> None:
        """Wait until some replica may answer, where that is in sight."""

    async def _complete(
        self, replica: R, ids: list[int], sampling: Sampling, session: str | None
    ) -> Completion | EngineFault | None:
        """The answer of `replica`; None where it is lost and another one shall be asked."""
        raise NotImplementedError

    async def _served(self, probe: list[int]) -> list[Served]:
        raise NotImplementedError

    async def _greet(self, probe: list[int]) -> None:
        raise NotImplementedError

    async def _load(self, source: Any, *, renew: bool) -> None:
        async with self._quiet:
            self._loading = True
            try:
                await self._quiet.wait_for(lambda: not self._asking)
                self._awake = False  # until all have the weights
                await self._each("renew" if renew else "load", source)
                self.version += not renew
                self._awake = True
            finally:
                self._loading = False
                self._quiet.notify_all()

    async def _each(self, what: str, *arguments: object) -> None:
        """Raises the first error once all have ended."""
        up = [replica for replica in self.replicas if what == "close" or not replica.down]
        ended = await asyncio.gather(*(getattr(r, what)(*arguments) for r in up), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error


class ServerEngine(ReplicaEngine[Replica]):
    """An engine of servers behind HTTP."""

    def __init__(self, replicas: Sequence[Replica], *, max_context: int, vocabulary: int = LARGEST) -> None:
        """`vocabulary`: the number of ids that the model has."""
        super().__init__(replicas, max_context=max_context)
        for replica in replicas:
            replica.vocabulary = vocabulary

    async def _complete(
        self, replica: Replica, ids: list[int], sampling: Sampling, session: str | None
    ) -> Completion | EngineFault | None:
        answer = await replica.complete(ids, sampling, self.version)
        return None if isinstance(answer, EngineFault) and replica.down else answer

    async def _served(self, probe: list[int]) -> list[Served]:
        answers = []
        for replica in self.replicas:
            if not replica.down:
                answer = await replica.served(probe)
                if isinstance(answer, EngineFault):
                    raise EngineFailure(answer.problem, where="rollout.engine", hint=GO_ON)
                answers.append(answer)
        return answers

    async def _greet(self, probe: list[int]) -> None:
        for replica in self.replicas:
            await replica.greet(self.max_context)
            await replica.check_ids(probe)
