"""Computations side by side, each on its own share of the cores.

A pass of a language model is hundreds of small operations. Spread over cores, every one of
them wakes the other threads and waits for the last; two halves of a batch that run side by
side, each on one core, wait for each other once. They share weights and memory: groups are
threads of one process, and torch leaves Python's lock while it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST = 4
"""Groups at the most: each reads all weights, and memory serves only so many readers."""

Part = TypeVar("Part")
Found = TypeVar("Found")


class CoreGroups:
    """As many groups of cores as torch has threads, up to `MOST`; one where the work is not a CPU's.

    A context manager; `close` ends its threads too.
    """

    def __init__(self, device: torch.device, most: int = MOST) -> None:
        self._threads = torch.get_num_threads()
        self.count = min(self._threads, most) if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> CoreGroups:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(self, function: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
        """`function` of each of at most `count` parts, all at the same time; results in their order.

        A single part is computed here, with all threads. The first error is raised once all have ended.
        """
        if len(parts) < 2:
            return [function(part) for part in parts]
        if len(parts) > self.count:
            raise ValueError(f"{len(parts)} parts for {self.count} groups of cores")
        each = self._threads // self.count
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "cores", torch.set_num_threads, (each,))
        # MKL has one setting for the whole process.
        torch.set_num_threads(each)
        try:
            futures = [self._pool.submit(function, part) for part in parts]
            for future in futures:
                future.exception()
            return [future.result() for future in futures]
        finally:
            torch.set_num_threads(self._threads)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def balanced(sizes: Sequence[int], count: int) -> list[range]:
    """At most `count` runs of consecutive items of about equal total size, none empty."""
    total, runs, start, behind = sum(sizes), [], 0, 0
    for number in range(count):
        wanted = total * (number + 1) / count
        stop = start
        # An item goes to the run that its middle falls into.
        while stop < len(sizes) and (number == count - 1 or behind + sizes[stop] / 2 < wanted):
            behind += sizes[stop]
            stop += 1
        if stop > start:
            runs.append(range(start, stop))
        start = stop
    return runs
