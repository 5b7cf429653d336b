"""One server: requests with deadlines, and which of its failures are worth another try."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from eto.data.texts import shorten
from eto.engines.server.wire import error_message
from eto.environments.remote.proxies import check_address, on_this_machine, usable_proxy
from eto.errors import InputError
from eto.settings.engines import ClientSettings

FIRST_PAUSE = 0.5
"""Seconds before the second try; doubled before each further one."""
LONGEST_PAUSE = 30.0
CONNECT_SECONDS = 10.0
LONGEST_ASKED = 120.0
"""Seconds before the next try that a server can ask for."""
LONGEST_ANSWER = 64 * 2**20
"""In bytes."""
SHOWN = 300
"""Characters of a server's message that an error shows."""
BEGINNING = 120
"""Characters of an answer in no known form that an error shows."""
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables that say whom to trust, the first one first."""
LATER = (408, 425, 429)
"""Statuses below 500 by which a server asks for the same request later."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    content: Any
    """Decoded JSON; None where it is none."""
    begins: str = ""
    """The beginning of what came, on one line."""
    location: str = ""
    """Where it sends the request instead."""
    pause: float = 0.0
    """Seconds to wait before the next try, where it asks for that."""

    @property
    def message(self) -> str:
        """What it says of an error."""
        if said := error_message(self.content):
            return shorten(said, SHOWN)
        more = f"to {self.location}" if self.location else self.begins
        return shorten(f"HTTP status {self.status} {more}".rstrip(), SHOWN)

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status >= 500 or self.status in LATER

    @property
    def refused(self) -> bool:
        """Whether the same request will never be answered."""
        return 300 <= self.status < 500 and not self.may_pass


@dataclass(frozen=True, slots=True)
class Lost:
    """No whole answer came. A value."""

    problem: str
    stalled: bool = False
    """Whether time ran out, and not the connection."""


Mend = Callable[[Answer | Lost], Awaitable[bool]]
"""Looks after a server that failed; whether the request may be sent again at once."""


class Connection:
    """Keep-alive connections to one server, at most `requests` at once. Belongs to one event loop."""

    def __init__(self, url: str, settings: ClientSettings, key: str | None = None) -> None:
        """Raises `InputError` for an address or proxy that cannot be used."""
        self.url = url.rstrip("/")
        self._settings = settings
        self._turn = asyncio.Semaphore(settings.requests)
        self._key = key
        self.under_way = 0
        """Requests sent and not answered, and those that wait for their turn."""
        self._client = _client(self.url, settings.requests, key)

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Answer | Lost:
        """Sent once, when its turn comes."""
        self.under_way += 1
        try:
            async with self._turn:
                return await self._send("POST", path, body, self._settings.seconds)
        finally:
            self.under_way -= 1

    async def ask(self, path: str, body: Mapping[str, Any], mend: Mend | None = None) -> Answer | Lost:
        """`post`, sent again after a failed connection or an answer that may pass, with growing pauses, or
        longer ones where the server asks for them; after time ran out only where `mend` mended something."""
        tries, pause = self._settings.retries, FIRST_PAUSE
        while True:
            answer = await self.post(path, body)
            if isinstance(answer, Answer) and not answer.may_pass:
                return answer
            if mend is not None and await mend(answer):
                continue
            if not tries or (isinstance(answer, Lost) and answer.stalled):
                return answer
            tries -= 1
            await asyncio.sleep(max(pause, answer.pause) if isinstance(answer, Answer) else pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def control(
        self, path: str, body: Mapping[str, Any] | None = None, *, seconds: float
    ) -> Answer | Lost:
        """A request beside the others: it waits for no turn. `body`: None asks with GET."""
        return await self._send("GET" if body is None else "POST", path, body, seconds)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> Answer | Lost:
        try:
            async with asyncio.timeout(seconds):
                async with self._client.stream(method, self.url + path, json=body) as response:
                    content = bytearray()
                    async for piece in response.aiter_bytes():
                        content += piece
                        if len(content) > LONGEST_ANSWER:
                            return Lost(f"its answer is longer than {LONGEST_ANSWER >> 20} MB")
                    return self._answer(response, bytes(content))
        except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout, httpx2.PoolTimeout):
            return Lost(f"no answer within {seconds:g} seconds", stalled=True)
        except httpx2.ConnectTimeout:
            return Lost(f"no connection within {min(seconds, CONNECT_SECONDS):g} seconds")
        except httpx2.HTTPError as error:
            what = "no connection" if isinstance(error, httpx2.ConnectError) else "the connection failed"
            return Lost(f"{what}: {shorten(str(error) or type(error).__name__, SHOWN)}")

    def _answer(self, response: httpx2.Response, content: bytes) -> Answer:
        if self._key:  # some servers repeat a key that they refuse
            content = content.replace(self._key.encode(), b"***")
        begins = " ".join(content[: 4 * BEGINNING].decode("utf-8", "replace").split())[:BEGINNING]
        location = shorten(response.headers.get("Location", ""), SHOWN)
        return Answer(response.status_code, _decoded(content), begins, location, _asked_pause(response))


def key_from(variable: str | None, where: str) -> str | None:
    """The key in the environment variable `variable`. Raises `InputError`, which never shows it, where it is
    not set or cannot be sent."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        problem = "holds no key" if not key else "holds a key with characters that cannot be sent"
        raise InputError(f"the environment variable {variable} {problem}", where=where, hint="set it")
    return key


def check_url(url: str, where: str) -> None:
    """Raises `InputError` where `url` is not the plain address of a server."""
    check_address(url, where)
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        hint = "name its variable in rollout.server.key_variable"
        raise InputError("an address is kept in the recipe, so it holds no password", where=where, hint=hint)
    if parts.path.rstrip("/").endswith("/v1") or parts.query or parts.fragment:
        hint = f"give {parts.scheme}://{parts.netloc}"
        raise InputError(f"{url} is more than the server's address", where=where, hint=hint)


def _client(url: str, requests: int, key: str | None) -> httpx2.AsyncClient:
    try:
        with usable_proxy():
            return httpx2.AsyncClient(
                headers={"Authorization": f"Bearer {key}"} if key else None,
                timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=requests),
                # A transport of our own takes no proxy from the environment.
                transport=httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=requests))
                if on_this_machine(url)
                else None,
            )
    except OSError as error:  # trusted certificates are read for every client
        named = [name for name in CERTIFICATES if os.environ.get(name)]
        if not named:
            raise
        problem = f"no certificates can be read from {os.environ[named[0]]}: {error}"
        hint = "have it name a file of certificates in PEM form, or unset it"
        raise InputError(problem, where=named[0], hint=hint) from error


def _asked_pause(response: httpx2.Response) -> float:
    """Seconds of `Retry-After`; 0 where it is missing, or a date."""
    asked = response.headers.get("Retry-After", "").strip()
    return min(float(asked), LONGEST_ASKED) if asked.isascii() and asked.isdigit() else 0.0


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
