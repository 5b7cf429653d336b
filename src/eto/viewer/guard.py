"""Who may ask: pages of runs are for this machine alone, by its own names.

A page elsewhere could have a browser on this machine ask for them (DNS rebinding), so the names in `Host` and
`Origin` are checked, and nothing but reading is answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Refuses foreign names and other methods than GET and HEAD, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        """hosts: names besides those of `LOCAL`."""
        self.app, self.hosts = app, {*LOCAL, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        if method not in ("GET", "HEAD"):
            return PlainTextResponse("this viewer only reads\n", 405)
        if _name(headers.get("host", "")) not in self.hosts:
            return PlainTextResponse("this viewer answers to names of this machine only\n", 421)
        origin = headers.get("origin")
        if origin is not None and _name(urlsplit(origin).netloc) not in self.hosts:
            return PlainTextResponse("this viewer answers to its own pages only\n", 403)
        return None


def _name(host: str) -> str:
    """Without the port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
