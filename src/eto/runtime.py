"""Process-wide settings that must be in place before torch loads: threads, OpenMP waiting, caches.

Standard library only and quick, since `import eto` runs it first.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

WAITING = {
    # A spinning OpenMP thread keeps its core while it waits. Beside one other busy process
    # every parallel region then waits for a descheduled thread, and decoding slows tenfold.
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
}

CACHES = {
    # oneDNN makes a product anew for each number of rows and keeps 1,024 of them at some 0.3 MB, torch as
    # many again in each thread. In bfloat16 that is a gigabyte for actions and passes of all lengths. A pass
    # has a few shapes, which its layers share, and decoding steps some hundred.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
    "LRU_CACHE_CAPACITY": "16",
}

QUIET = {
    # The stages draw their own progress; a second bar in the same terminal garbles both.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

LATE = (
    "torch was imported before eto, so OpenMP waits by spinning, which can slow training and "
    "generation tenfold on a busy machine: import eto first, or set OMP_WAIT_POLICY=PASSIVE"
)


def configure_threads(threads: int | None = None) -> str | None:
    """Set threads, passive OpenMP waiting and the sizes of `CACHES` through the environment.

    What the user has set stays, except for the number of threads when `threads` is given.
    Without it, one thread per physical core this process may use. Call it before torch is
    imported; afterwards only an explicit `threads` still takes effect.

    Returns a warning when torch was already imported without passive waiting, else None.
    Raises ValueError when `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    torch = sys.modules.get("torch")
    if torch is not None:
        if threads is not None and hasattr(torch, "set_num_threads"):
            torch.set_num_threads(threads)
        # Left unset on purpose: set now it would look in force, and is not.
        return None if "OMP_WAIT_POLICY" in os.environ else LATE
    for name, value in (WAITING | CACHES).items():
        os.environ.setdefault(name, value)
    given = next((os.environ[name] for name in THREAD_VARIABLES if name in os.environ), None)
    for name in THREAD_VARIABLES:
        if threads is not None:
            os.environ[name] = str(threads)
        else:
            # torch takes the larger of the two: the one that is unset follows the one the user set.
            os.environ.setdefault(name, given or str(available_cores()))
    return None


def quiet_libraries() -> None:
    """Have the model libraries print nothing but errors, unless the user has set otherwise.

    For the commands, which draw their own output, before a library is imported.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def release_memory() -> None:
    """Give memory that nothing uses back to the operating system.

    Models are freed in circles, so collected first; glibc then keeps what was freed in its own lists: several
    gigabytes after a model of 135M parameters, more with each stage of a process that runs many.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def available_cores() -> int:
    """Physical cores this process may use: affinity and container quota respected, at least 1."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    logical = os.sched_getaffinity(0)
    physical = {_siblings(cpu) for cpu in logical}
    return max(1, min(len(physical), _quota() or len(physical)))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with `cpu`, as the kernel lists them."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(cpu)


def _quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """CPUs granted by the control group, rounded up; None where there is no limit."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None
