"""A server of ours on this machine, until it is interrupted."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from eto.cli.terminal import say, warn
from eto.data.oserrors import reason
from eto.errors import InputError

KEEP_ALIVE_SECONDS = 75
"""How long an unused connection stays: longer than clients keep theirs, who could ask just as it closes."""
GRACE_SECONDS = 10.0
"""For requests under way to end in, once the server is to end."""


class _Server(uvicorn.Server):
    """Ends in any case: Python waits for every thread, and a simulator that hangs never leaves its own."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        end = threading.Timer(GRACE_SECONDS, _end_at_once, [128 + sig])
        end.daemon = True
        end.start()


def run_server(app: Any, host: str, port: int, what: str = "") -> None:
    """Serve `app`, and say where; `what` comes before that. Raises `InputError` where it cannot listen."""
    sockets = listening(host, port)
    shown, port = f"[{host}]" if ":" in host else host, sockets[0].getsockname()[1]
    say(f"{what}http://{shown}:{port}   Ctrl-C ends it")
    server = _Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=KEEP_ALIVE_SECONDS))
    with suppress(KeyboardInterrupt):
        server.run(sockets=sockets)


def check_free(host: str, port: int) -> None:
    """Refuse a place where no server can listen, before what it serves is loaded."""
    for each in listening(host, port):
        each.close()


def listening(host: str, port: int) -> list[socket.socket]:
    """Sockets at all addresses of `host`, with one port; 0 takes a free one. Raises `InputError`."""
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, place in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            try:
                sockets.append(_listening(family, (place[0], port, *place[2:])))
                port = sockets[0].getsockname()[1]
            except OSError as error:  # a machine without IPv6 may still have names for its addresses
                if not sockets or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
    except (OSError, UnicodeError) as error:
        for each in sockets:
            each.close()
        why = reason(error) if isinstance(error, OSError) else "no name of a host"
        hint = "take another --port, or a --host of this machine"
        raise InputError(f"cannot listen: {why}", where=f"{host}:{port}", hint=hint) from None
    return sockets


def _listening(family: int, place: tuple[Any, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(place)
        opened.listen()
    except OSError:
        opened.close()
        raise
    return opened


def _end_at_once(code: int) -> None:
    warn(f"still at work after {GRACE_SECONDS:g} s: ended all the same")
    os._exit(code)
