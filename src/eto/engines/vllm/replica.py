"""A vLLM server that is started, watched and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError, safe_open

from eto.data.texts import counted
from eto.engines.server.connection import Answer, Connection, Lost
from eto.engines.server.replica import Replica, check_weights
from eto.engines.server.wire import COMPLETIONS, completion_request, request_shape
from eto.engines.vllm.process import ServerProcess, free_port
from eto.errors import EngineFailure, InputError
from eto.protocols import EngineFault, Sampling
from eto.settings.engines import VllmSettings

HEALTH_SECONDS = 10.0
"""Longest wait of a server that is alive for an answer to `/health`."""
HANGS_SECONDS = 60.0
"""Longest wait for one token, of a server on which a request has run out of time."""
LOOK_SECONDS = 0.5
"""Between two looks at a server that starts."""
WHERE = "rollout.vllm"


@dataclass(frozen=True, slots=True)
class Start:
    """How one server is started."""

    command: tuple[str, ...]
    """The model's directory follows it, then `options` and `arguments`."""
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    on_cpu: bool = False

    def line(self, directory: Path, model: str, port: int) -> list[str]:
        """The whole command."""
        where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", model]
        return [*self.command, str(directory), *where, *self.options, *self.arguments]


class VllmReplica(Replica):
    """Dead or hung, it is started again on the same weights, and the requests it owes are sent once more."""

    section = WHERE

    def __init__(
        self, start: Start, settings: VllmSettings, context: int, say: Callable[[str], None]
    ) -> None:
        # A name nobody else has: another server on the port would not know it.
        super().__init__(Connection(_address(free_port()), settings), settings, f"eto-{uuid4().hex[:8]}")
        self.start = start
        self.process: ServerProcess | None = None
        self.directory: Path | None = None
        """The weights it acts with."""
        self._vllm, self._context, self._say = settings, context, say
        self._mending = asyncio.Lock()
        self._restarts, self._reloads = 0, True
        self.generation = 0
        """How often it was started."""

    async def load(self, directory: Path) -> None:
        """Started on `directory` the first time; then given its weights, or started again where it does not
        take them."""
        check_weights(directory)
        running = self.process is not None and self.process.running
        # On a CPU vLLM keeps a second, packed copy of a head; one tied to the embeddings is not packed again.
        if not running or not self._reloads or (self.start.on_cpu and has_tied_head(directory)):
            await self._start_on(directory)
            return
        try:
            await super().load(directory)
            self.directory = directory
        except (EngineFailure, InputError) as error:
            # A reload that failed leaves a server that dies with the next request.
            self._say(f"vLLM is started again, for it did not take new weights: {error.problem}")
            await self._start_on(directory)

    async def renew(self, directory: Path) -> None:
        """Start it again on `directory`, and from now on always: weights that it loaded were not right."""
        self._reloads = False
        await self._start_on(directory)

    async def sleep(self) -> None:
        """End the server; the next `load` starts it."""
        await self._end()

    async def close(self) -> None:
        await self._end()
        await super().close()

    async def greet(self, context: int) -> None:
        """Nothing: it is asked what it serves whenever it was started."""

    async def check_ids(self, probe: Sequence[int]) -> None:
        """Nothing: its first answers show it."""

    # -- inside -----------------------------------------------------------------------

    async def _ask(
        self, body: Mapping[str, Any], ids: Sequence[int], sampling: Sampling
    ) -> Answer | EngineFault:
        seen = self.generation

        async def mend(failed: Answer | Lost) -> bool:
            nonlocal seen
            async with self._mending:
                if self.generation == seen and not await self._works(failed):
                    await self._start_again(failed)
                renewed, seen = self.generation != seen, self.generation
                return renewed

        answer = await self.connection.ask(COMPLETIONS, body, mend)
        if isinstance(answer, Lost):
            return EngineFault(f"{self.url}: {answer.problem}", hint=self._remedy(answer))
        if answer.status == 200:
            self._restarts = 0
        return self._usable(answer, request_shape(self.url, ids, sampling))

    def _remedy(self, failed: Answer | Lost) -> str:
        return f"its log is {self.start.log}"

    async def _works(self, failed: Answer | Lost) -> bool:
        """Whether the server is alive and, where a request ran out of time, still writes."""
        if self.process is None or not self.process.running:
            return False
        health = await self.connection.control("/health", seconds=HEALTH_SECONDS)
        if isinstance(health, Lost) or health.status != 200:
            return False
        if not (isinstance(failed, Lost) and failed.stalled):
            return True
        body = completion_request(self.model, [0], Sampling(1))
        seconds = min(HANGS_SECONDS, self.settings.seconds)
        return isinstance(await self.connection.control(COMPLETIONS, body, seconds=seconds), Answer)

    async def _start_again(self, failed: Answer | Lost) -> None:
        why = failed.problem if isinstance(failed, Lost) else failed.message
        self._restarts += 1
        if self._restarts > self._vllm.restarts or self.directory is None:
            tail = self.process.tail() if self.process else ""
            raise EngineFailure(
                f"vLLM failed {counted(self._restarts, 'time')} in a row: {why}\n{tail}",
                where=WHERE,
                hint=f"its log is {self.start.log}; the same command goes on where this one stopped",
            )
        self._say(f"vLLM is started again: {why}")
        await self._start_on(self.directory)

    async def _start_on(self, directory: Path) -> None:
        """Raises `EngineFailure` where it does not get ready, with the end of its log."""
        await self._end()
        port = free_port()
        self.connection.url = _address(port)
        line = self.start.line(directory, self.model, port)
        self.process = ServerProcess(line, self.start.environment, self.start.log)
        last = time.monotonic() + self._vllm.start_seconds
        while not await self._ready():
            if not self.process.running or time.monotonic() > last:
                ended = "ended" if not self.process.running else "was not ready"
                tail = self.process.tail()
                await self._end()
                raise EngineFailure(
                    f"vLLM {ended} within {self._vllm.start_seconds:g} seconds of its start\n{tail}",
                    where=WHERE,
                    hint=f"its log is {self.start.log}",
                )
            await asyncio.sleep(LOOK_SECONDS)
        await super().greet(self._context)
        self.directory, self.version_name, self.down = directory, "", False
        self.generation += 1

    async def _ready(self) -> bool:
        """Whether our server, and no other that took its port, answers."""
        listed = await self.connection.control("/v1/models", seconds=HEALTH_SECONDS)
        return isinstance(listed, Answer) and listed.status == 200 and self.model in str(listed.content)

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            await asyncio.to_thread(process.end)


def has_tied_head(directory: Path) -> bool:
    """Whether the weights in `directory` have no head of their own, so that it is the embeddings'. Raises
    `InputError` for a file that cannot be read."""
    names: set[str] = set()
    for path in directory.glob("*.safetensors"):
        try:
            with safe_open(path, "np") as weights:
                names |= set(weights.keys())
        except (OSError, SafetensorError) as error:
            hint = "restore it from a copy, or save the model again"
            raise InputError(f"cannot be read: {error}", where=str(path), hint=hint) from error
    return not any("lm_head" in name or "embed_out" in name for name in names)


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}"
