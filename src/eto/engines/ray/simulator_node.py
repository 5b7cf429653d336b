"""A simulator's worker process on a node of the cluster, behind an actor of Ray."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from eto.engines.ray.greeting import Hello, hello
from eto.environments.hosting.process import Inbox, WorkerProcess


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
        """Request `number`, counted from 0, to the worker process, which gets them in their order: Ray may
        deliver calls in another one."""
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
