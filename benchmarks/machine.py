"""What the machine can do at most: FLOP/s of matrix products, bytes a second read from memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Peak:
    """The most FLOP/s that plain products reach, best of several shapes and both layouts."""

    def __init__(self, shapes: Iterable[tuple[int, int, int]], dtype: torch.dtype, seconds: float) -> None:
        """shapes: (rows, inner, columns); seconds: time for each of them at each call."""
        self._shapes, self._dtype, self._seconds = sorted(set(shapes)), dtype, seconds / 2
        self.fastest, self._best = "", 0.0

    def __call__(self) -> float:
        return max(self._measure(*shape) for shape in self._shapes)

    def _measure(self, rows: int, inner: int, columns: int) -> float:
        left = torch.randn(rows, inner).to(self._dtype)
        right = torch.randn(inner, columns).to(self._dtype)
        out = torch.empty(rows, columns, dtype=self._dtype)
        best = 0.0
        # The second is a weight as linear layers keep it, `[out, in]`.
        for operand in (right, right.t().contiguous().t()):
            per_call = seconds_a_call(lambda operand=operand: torch.mm(left, operand, out=out), self._seconds)
            best = max(best, 2 * rows * inner * columns / per_call)
        if best > self._best:
            self._best = best
            self.fastest = f"[{rows}, {inner}] x [{inner}, {columns}]"
        return best


def read_bytes_a_second(memory: Tensor) -> float:
    """The faster of a sum and a matrix-vector product over `memory` `[n, n]`, fp32."""
    vector, out = torch.ones(memory.shape[1]), torch.empty(memory.shape[0])
    reads = (memory.sum, lambda: torch.mv(memory, vector, out=out))
    return max(memory.nbytes / seconds_a_call(read, 0.3) for read in reads)


def seconds_a_call(call: Callable[[], object], least: float) -> float:
    """The shortest of at least three calls that together take at least `least` seconds."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < least:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)
