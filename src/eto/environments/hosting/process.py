"""The parent's side of one worker process: its pipes, its queue of requests, its end."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from eto.data.codec import to_line
from eto.environments.hosting.failures import one_line
from eto.environments.hosting.process_memory import tree_mb
from eto.environments.hosting.requests import Request

WATCH_SECONDS = 0.5
"""Time between two looks at a worker's memory."""

STDERR_KEPT = 4000
"""Characters of a worker's standard error that are kept, from its end."""


class Inbox(queue.SimpleQueue):
    """Replies of workers: (worker, time of arrival, line, or None once it has ended)."""

    news: Callable[[], None] | None = None
    """Called after each put, in the thread that puts."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item)
        if (news := self.news) is not None:
            news()


class Worker:
    """A worker with the requests it has been sent and not answered, oldest first, wherever it runs."""

    pid: int | None = None
    """Of its process, where that is on this machine and a child of this process."""

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self.ready = False
        self.since = time.monotonic()  # when it turned to its first request
        self.served: int | None = None  # the slot it has answered last
        self.excess = ""  # says how far it was over its limit of memory
        self.lost = False  # whether its machine is gone, which is no fault of a simulator

    def send(self, request: Request) -> None:
        """Queues a request behind those before it."""
        if self.ready and not self.requests:
            self.since = time.monotonic()
        self.requests.append(request)
        self.write(to_line(request))

    def deadline(self, seconds: dict[str, float]) -> float | None:
        """When the request being served is overdue; None while there is none."""
        if not self.ready:
            return self.since + seconds["reset"]
        return self.since + seconds[self.requests[0].operation] if self.requests else None

    def overdue(self, seconds: dict[str, float]) -> float | None:
        """The limit that has passed, in seconds; None where none has."""
        end = self.deadline(seconds)
        if end is None or time.monotonic() < end:
            return None
        return end - self.since

    def request_exit(self) -> None:
        """Asks it to close its simulators and end, after the requests before."""
        self.write(to_line(Request(0, "quit")))

    def write(self, line: str) -> None:
        """Sends a line; to one that has ended, nothing."""
        raise NotImplementedError

    def kill(self, grace: float = 0.0) -> None:
        """Ends it and all it started after at most `grace` seconds."""
        raise NotImplementedError

    def exit_report(self) -> str:
        """Why it ended, for a message."""
        raise NotImplementedError


StartWorker = Callable[[tuple[str, dict[str, Any]], Inbox, int], Worker]
"""(spec of the suite, where its replies arrive, most MB it may hold) -> a worker that has been started."""


class WorkerProcess(Worker):
    """A worker in a process of this machine. Killed when it and what it started hold more than
    `memory_mb`."""

    def __init__(self, spec: tuple[str, dict[str, Any]], inbox: Inbox, memory_mb: int) -> None:
        super().__init__()
        self._ended = threading.Event()
        self._stderr = ""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "eto.environments.hosting.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr, "all three are pipes"
        self.pid = self.process.pid
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._errors: Any = self.process.stderr.buffer  # type: ignore[attr-defined]
        self._threads = [
            threading.Thread(target=self._read_replies, args=(inbox,), daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
            threading.Thread(target=self._watch_memory, args=(memory_mb,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.write(json.dumps(spec))

    def kill(self, grace: float = 0.0) -> None:
        """Kills the process group after at most `grace` seconds and waits for its end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self._ended.set()
        self._kill_group()
        self.process.wait()
        for thread in self._threads:
            thread.join(timeout=2.0)
        for stream in (self._stdin, self._stdout, self._errors):
            with suppress(BrokenPipeError):  # unsent requests in its buffer
                stream.close()

    def exit_report(self) -> str:
        """Exit status and the end of its standard error, for a message."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self._threads[1].join(timeout=1.0)
        lines = [line.strip() for line in self._stderr.splitlines() if line.strip()]
        said = " | ".join(one_line(line) for line in lines[-3:])
        return f"exit status {self.process.poll()}; {said or 'it said nothing'}"

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):  # it ended, and its simulators with it
            os.killpg(self.process.pid, signal.SIGKILL)

    def _watch_memory(self, limit: int) -> None:
        """Kills at once: who reads the replies may be busy for longer than a leak takes."""
        while not self._ended.wait(WATCH_SECONDS) and self.process.poll() is None:
            used = tree_mb(self.process.pid)
            if used > limit:
                self.excess = f"its worker process used {used:.0f} MB; the limit is memory_mb = {limit}"
                self._kill_group()
                return

    def write(self, line: str) -> None:
        with suppress(BrokenPipeError):  # dead: the reader of its replies reports that
            self._stdin.write(line + "\n")
            self._stdin.flush()

    def _read_replies(self, inbox: Inbox) -> None:
        for line in self._stdout:
            inbox.put((self, time.monotonic(), line))
        inbox.put((self, time.monotonic(), None))

    def _read_stderr(self) -> None:
        # In pieces: a simulator may write without end and without line breaks.
        while piece := self._errors.read1(1 << 16):
            self._stderr = (self._stderr + piece.decode("utf-8", "replace"))[-STDERR_KEPT:]
