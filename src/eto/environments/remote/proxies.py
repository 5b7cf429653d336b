"""Connections to servers: never by a proxy to this machine, and by the environment's proxy elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx2

from eto.environments.hosting.failures import one_line
from eto.errors import InputError, MissingRequirement

PROXIES = ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy")
_HINT = "correct or unset the variable, or name the server in no_proxy"


def on_this_machine(address: str) -> bool:
    """Whether the server at the URL `address` runs here: its host is one of this machine's own."""
    return _own((urlsplit(address).hostname or "").rstrip("."))


def client(address: str, seconds: float) -> httpx2.Client:
    """An HTTP client for the server at `address`.

    Raises `InputError` for an address or a proxy that is not a URL, `MissingRequirement` for one
    whose protocol needs a package that is not installed.
    """
    # A transport of our own takes no proxy from the environment, but its certificates.
    transport = httpx2.HTTPTransport() if on_this_machine(address) else None
    with usable_proxy():
        return httpx2.Client(base_url=address, timeout=seconds, transport=transport)


def check_address(address: str, where: str = "address") -> None:
    """Raises `InputError` where `address` is not the URL of an HTTP server."""
    try:
        parts = urlsplit(address)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        fine = False
    if not fine:
        raise InputError(
            f"{address!r} is not an address", where=where, hint="for example http://127.0.0.1:8000"
        )


def refusal(reply: httpx2.Response) -> str:
    """What a server says that answers with the status of an error."""
    return f"HTTP status {reply.status_code}: {one_line(reply.text) or 'nothing said'}"


@contextmanager
def usable_proxy(*, connects_only: bool = True) -> Iterator[None]:
    """Tells what a client makes of the proxy variables: `InputError` where one cannot be used,
    `MissingRequirement` where its protocol needs a package that is not installed.

    connects_only: nothing else happens here; otherwise an error has to name the proxy.
    """
    try:
        yield
    except (ImportError, httpx2.InvalidURL, OverflowError, ValueError) as error:
        named = "proxy" in str(error).lower()
        if not _given() or not (named or (connects_only and not isinstance(error, ImportError))):
            raise
        where = ", ".join(_given())
        if isinstance(error, ImportError):
            problem = f"the proxy needs a package that is not installed: {error}"
            raise MissingRequirement(problem, where=where, hint=f"install it, or {_HINT}") from error
        raise InputError(f"no usable proxy: {error}", where=where, hint=_HINT) from error


def _given() -> list[str]:
    """The proxy variables that are set, as they are spelt."""
    return [name for name in os.environ if name.lower() in PROXIES and os.environ[name].strip()]


@cache
def _own(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname():
        return True
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(addresses) and all(_can_listen(family, place) for family, _, _, _, place in addresses)


def _can_listen(family: int, place: tuple[Any, ...]) -> bool:
    """Only an address of this machine can be listened on."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((place[0], 0, *place[2:]))
            return True
    except OSError:
        return False
