"""`python -m eto.environments.hosting.worker`: a process that hosts the simulators of one suite.

The first line it reads is the suite's `spec`; each later one is a `Request`, served in order. For each
line it writes a `Reply`, both as `eto.data.codec` writes them. An error is a reply too. The process ends,
and its whole process group with it, when its standard input closes or its parent is gone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import IO

from eto.data.codec import from_line, to_line
from eto.environments.hosting.host import Host, build_suite
from eto.environments.hosting.requests import Fault, Reply, Request, answer

FAREWELL_SECONDS = 3.0
"""Time to close the simulators in before the process group is killed."""


def main() -> None:
    requests, replies = _take_standard_streams()
    inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    this_process = os.getpid()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    host: Host | None = None
    while (line := inbox.get()) is not None:
        try:
            if host is None:
                host, reply = Host(build_suite(json.loads(line))), Reply()
            elif (request := from_line(Request, line)).operation == "quit":
                break
            else:
                reply = answer(host, request)
        except Exception as error:  # becomes data: the parent decides what it costs
            reply = Reply(fault=Fault.of(error))
        if os.getpid() != this_process:
            os._exit(1)  # a child that a simulator forked and let return: it has no one to answer
        replies.write(to_line(reply) + "\n")
        replies.flush()
    threading.Thread(target=_kill_group_after, args=(FAREWELL_SECONDS,), daemon=True).start()
    if host is not None:
        host.close()
    _kill_group_after(0)


def _take_standard_streams() -> tuple[IO[str], IO[str]]:
    """Private copies of fds 0 and 1, so that a simulator's prints cannot spoil the protocol."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _read(requests: IO[str], inbox: queue.SimpleQueue[str | None]) -> None:
    for line in requests:
        inbox.put(line)
    inbox.put(None)
    _kill_group_after(FAREWELL_SECONDS)  # the main thread may hang in a simulator


def _watch_parent(parent: int) -> None:
    """Standard input stays open if another child of a killed parent inherited it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    _kill_group_after(0)


def _kill_group_after(seconds: float) -> None:
    time.sleep(seconds)
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():  # started as a group of its own: simulators included
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
