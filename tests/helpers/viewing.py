"""A viewer in this process, at a free port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import sleep

import uvicorn

from eto.viewer.app import build_app


@contextmanager
def viewer(place: Path) -> Iterator[str]:
    """Address of a viewer of the run in `place`, or of the runs there, as `eto view` serves it."""
    server = uvicorn.Server(uvicorn.Config(build_app([place]), port=0, log_level="error"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        sleep(0.01)
    [listening] = server.servers[0].sockets
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
