"""What a run is planned for: this machine, or GPUs by name."""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from eto.errors import InputError
from eto.machine import gpus

GPUS = {
    "A100-40GB": (40, 312, 1555),
    "A100-80GB": (80, 312, 2039),
    "H100-80GB": (80, 989, 3350),
    "H200-141GB": (141, 989, 4800),
    "L4-24GB": (24, 121, 300),
    "L40S-48GB": (48, 362, 864),
    "RTX3090-24GB": (24, 71, 936),
    "RTX4090-24GB": (24, 165, 1008),
}
"""Name -> GB of memory, 10^12 floating-point operations a second in bf16 without sparsity, GB a second from
memory. The makers' figures."""
_UNKNOWN = (100.0, 1000.0)
"""Operations and bytes of a GPU that is here and has another name."""
CPU_CONTEXT, GPU_CONTEXT = 500_000_000, 900_000_000
"""Bytes of a process before it has a model: interpreter and libraries, measured; what CUDA takes on a device,
assumed."""
CPU_SHARES, GPU_SHARES = (0.67, 0.25), (0.35, 0.5)
"""Of the operations that training reaches, and of the bandwidth that acting does: measured on a CPU
(docs/speed.md), assumed on a GPU."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """A kind of device, and how many there are."""

    name: str
    count: int
    memory: int
    """Bytes of one."""
    operations: float
    """Floating-point operations a second of one, in the type of the computation, at best."""
    bandwidth: float
    """Bytes a second that one reads from its memory."""
    is_cpu: bool = False
    here: bool = False
    """Whether it is this machine's."""

    @property
    def context(self) -> int:
        """Bytes that a process takes of one before it has a model."""
        return CPU_CONTEXT if self.is_cpu else GPU_CONTEXT

    @property
    def training_share(self) -> float:
        """Of its operations that training reaches."""
        return (CPU_SHARES if self.is_cpu else GPU_SHARES)[0]

    @property
    def acting_share(self) -> float:
        """Of its bandwidth that acting reaches."""
        return (CPU_SHARES if self.is_cpu else GPU_SHARES)[1]

    @property
    def text(self) -> str:
        speed = f"{self.operations / 1e12:.3g} TFLOP/s, {self.bandwidth / 1e9:.3g} GB/s"
        count = "" if self.is_cpu else f"{self.count} x "
        return f"{count}{self.name}, {self.memory / 1e9:.0f} GB, {speed}"


def named_hardware(name: str) -> Hardware:
    """Hardware by its name in `GPUS`, such as `8xA100-80GB` or `RTX4090-24GB`, or `this`, this machine's.
    Raises `InputError` for another."""
    if name == "this":
        return this_machine()
    found = re.fullmatch(r"(?:([1-9]\d{0,4})x)?(.+)", name)
    count, kind = (int(found[1] or 1), found[2]) if found else (1, name)
    known = {each.lower(): each for each in GPUS}
    if kind.lower() not in known:
        near = difflib.get_close_matches(kind.lower(), known, n=1)
        hint = f"did you mean {known[near[0]]}?" if near else f"use this, or one of {', '.join(GPUS)}"
        raise InputError(f"unknown hardware {kind!r}", where="--hardware", hint=hint)
    exact = known[kind.lower()]
    memory, operations, bandwidth = GPUS[exact]
    return Hardware(exact, count, memory * 10**9, operations * 1e12, bandwidth * 1e9)


def this_machine() -> Hardware:
    """The GPUs of this machine or, where it has none, its processor, whose speed is measured in a second."""
    if found := gpus():
        first = found[0]
        operations, bandwidth = _speed_of(str(first["name"]), first["memory_gb"])
        memory = int((first["memory_gb"] or 0) * 1e9)
        return Hardware(str(first["name"]), first["count"], memory, operations, bandwidth, here=True)
    import psutil

    memory = psutil.virtual_memory().total
    return Hardware("this machine's processor", 1, memory, *_measured(), is_cpu=True, here=True)


def _speed_of(name: str, memory: float | None) -> tuple[float, float]:
    """Operations and bytes a second of a GPU that torch calls `name`."""
    spelt = name.lower().replace(" ", "")
    for known, (size, operations, bandwidth) in GPUS.items():
        if known.lower().split("-")[0] in spelt and abs((memory or size) - size) < 0.15 * size:
            return operations * 1e12, bandwidth * 1e9
    return _UNKNOWN[0] * 1e12, _UNKNOWN[1] * 1e9


def _measured(seconds: float = 0.3) -> tuple[float, float]:
    """Operations and bytes a second of this processor, in products of the size that a layer has."""
    import torch

    from eto.models.dtype import compute_dtype

    dtype = compute_dtype("auto", torch.device("cpu"))
    with torch.inference_mode():
        left, right = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        products = _times_a_second(lambda: left @ right, seconds)
        row, weights = torch.randn(1, 4096).to(dtype), torch.randn(4096, 16_384).to(dtype)
        reads = _times_a_second(lambda: row @ weights, seconds)
    return 2 * 1024**3 * products, weights.numel() * weights.element_size() * reads


def _times_a_second(work: Callable[[], object], seconds: float) -> float:
    """By the quickest time: what other processes take of the machine does not count."""
    work()
    quickest, begun = math.inf, time.perf_counter()
    while (start := time.perf_counter()) - begun < seconds:
        work()
        quickest = min(quickest, time.perf_counter() - start)
    return 1 / quickest
