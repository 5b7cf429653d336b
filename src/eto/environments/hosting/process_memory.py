"""Memory of worker processes: what a process and all it started hold, and what there is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

MB = 2**20


def tree_mb(pid: int) -> float:
    """Resident MB of a process and of all its descendants; 0 where it has ended.

    Memory that several of them share counts once for each.
    """
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += each.memory_info().rss
    return total / MB


def equal_share_mb(workers: int, limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """MB for each of `workers` processes if they had the machine, or its control group, to themselves."""
    total = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no control groups, or "max": no limit
        total = min(total, int(limit.read_text()))
    return total // MB // workers
