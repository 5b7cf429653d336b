"""One server process behind its guard, with its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from eto.engines.vllm import guard

TAIL_LINES = 12
TAIL_BYTES = 16_000
GRACE_SECONDS = 10.0
"""For a server to end by itself, and for its processes after it."""


class ServerProcess:
    """A server, started; ended by `end`, by the end of this process however it comes, or by itself."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, grace: float = GRACE_SECONDS
    ) -> None:
        """`log` gets what it writes, behind what is there. `grace`: seconds to end by itself, once asked."""
        self.log, self._grace = log, grace
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._begun = file.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, str(grace), *command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    @property
    def pid(self) -> int:
        """Of the guard."""
        return self._guard.pid

    def end(self) -> None:
        """Ends it and all it started; waits for that. Safe to call twice."""
        assert self._guard.stdin, "it is a pipe"
        self._guard.stdin.close()
        try:
            self._guard.wait(2 * self._grace + 5)
        except subprocess.TimeoutExpired:  # not after its end: its number may be another's by then
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()

    def tail(self) -> str:
        """The last lines of its log since it was started."""
        with self.log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(self._begun, file.tell() - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])


def free_port() -> int:
    """A port of this machine that nobody listens on now. Another process may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for a program of another Python, with `more`."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSAFEPATH")
    return {name: value for name, value in os.environ.items() if name not in ours} | dict(more)
