"""Runs a server and ends it, with all that it started, once whoever asked for it is gone.

Started as a script of its own: `python -I guard.py GRACE COMMAND...`. Its standard input is a pipe that the
asking process holds open; the kernel closes it however that process ends, also by `kill -9`. Standard library
alone, in one thread.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from types import FrameType

LOOK_SECONDS = 0.5
"""Between two looks at the server."""
PR_SET_PDEATHSIG = 1


class _Asked(Exception):
    """A signal asks for the end."""


def main(command: list[str], grace: float) -> int:
    """Exit status of the server; 0 where it was asked to end. `grace`: seconds it has to end by itself, and
    its processes after it; killed at once it would leave its shared memory behind."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ask)
    # Its sockets and other temporary files: a server that is killed leaves them behind.
    try:
        with tempfile.TemporaryDirectory(prefix="eto-server-", ignore_cleanup_errors=True) as temporary:
            return _watched(command, grace, os.environ | {"TMPDIR": temporary})
    except _Asked:  # before the server was there
        return 0


def _watched(command: list[str], grace: float, environment: dict[str, str]) -> int:
    # A process group of its own, so that a signal to it spares this process.
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=environment, process_group=0, preexec_fn=_end_with_parent
    )
    try:
        while server.poll() is None and not _closed(sys.stdin.fileno()):
            pass
        status = server.poll() or 0
    except _Asked:
        status = 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_group(server, grace)
    return status if status >= 0 else 128 - status


def _closed(pipe: int) -> bool:
    """Whether the other end is closed; waits `LOOK_SECONDS` at most."""
    ready, _, _ = select.select([pipe], [], [], LOOK_SECONDS)
    return bool(ready) and not os.read(pipe, 1)


def _end_group(server: subprocess.Popen[bytes], grace: float) -> None:
    """The server first: it ends its own processes in order. What is left then is killed."""
    _signal(server.pid, signal.SIGCONT)  # a stopped process does not end before it goes on
    if server.poll() is None:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(grace)
    last = time.monotonic() + grace
    _signal(server.pid, signal.SIGTERM)
    while _signal(server.pid, 0) and time.monotonic() < last:
        server.poll()
        time.sleep(0.1)
    _signal(server.pid, signal.SIGKILL)
    server.wait()


def _signal(group: int, number: int) -> bool:
    """Whether there is such a group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # the latter on macOS, for one that has just ended
        return False
    return True


def _end_with_parent() -> None:
    """In the server, before it runs: where this guard is killed, the kernel asks the server to end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _ask(number: int, frame: FrameType | None) -> None:
    raise _Asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], float(sys.argv[1])))
