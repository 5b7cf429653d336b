"""Engines behind HTTP: servers that take and return token ids in `/v1/completions`.

- `connection`: one server: deadlines, tries, the key
- `engine`: requests of many episodes, sent to one or more servers
- `remedies`: what a user can do about a request that failed
- `replica`: one server as an engine uses it: asked, given new weights, checked
- `wire`: what is sent, and what an answer must be
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eto.errors import InputError

if TYPE_CHECKING:
    from eto.engines.opening import Needs
    from eto.engines.server.engine import ServerEngine
    from eto.settings import RolloutSettings


def open_engine(settings: RolloutSettings, needs: Needs) -> ServerEngine:
    """The engine of servers that somebody else started. Raises `InputError` for settings that cannot be."""
    from eto.engines.server.connection import Connection, check_url, key_from
    from eto.engines.server.engine import ServerEngine
    from eto.engines.server.replica import Replica

    server = settings.server
    if server is None:
        raise InputError("names no server", where="rollout.server.urls", hint="give its address")
    key = key_from(server.key_variable, "rollout.server.key_variable")
    for url in server.urls:
        check_url(url, "rollout.server.urls")
    replicas = [Replica(Connection(url, server, key), server, server.model) for url in server.urls]
    return ServerEngine(replicas, max_context=needs.max_context, vocabulary=needs.vocabulary)
