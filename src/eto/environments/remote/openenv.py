"""Environments behind an OpenEnv server (meta-pytorch/OpenEnv), in sessions over a WebSocket.

The protocol: a connection to `/ws` is a session with an environment of its own, which ends with the
connection. `{"type": "reset", "data": {"seed": 3}}` and `{"type": "step", "data": {fields of the action}}`
are answered by `{"type": "observation", "data": {"observation": {...}, "reward": 0.5, "done": false}}` or
by `{"type": "error", "data": {"message", "code"}}`. `GET /schema` gives the fields of actions and
observations. `POST /reset` and `/step` keep nothing from one request to the next and are not used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, Literal

import httpx2
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from eto.data.texts import counted
from eto.environments.remote.openenv_fields import Fields, find_fields
from eto.environments.remote.proxies import (
    check_address,
    client,
    on_this_machine,
    refusal,
    usable_proxy,
)
from eto.environments.remote.reaching import Reach
from eto.environments.toolkit.scoring import clipped, episode_score
from eto.environments.toolkit.suite import INSTRUCTION, EpisodeEnvironment, NumberedSuite, options_of
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Task

ROOM_SECONDS = 5.0
"""How long to wait for another session to end where the server takes no more."""
LONGEST_ANSWER = 100 * 2**20
"""In bytes, as OpenEnv's own client allows."""


class OpenEnv(NumberedSuite):
    """Task suite over the seeds of a server's environment.

    address: of the server, such as http://127.0.0.1:8000.
    train, dev, test: first seed of the split and the one after its last; they must not overlap.
    action_field: the action's field for the agent's text; "" takes the only one that is text.
    observation_fields: the observation's fields that are shown, a line each; [] takes the only text.
    fixed: further fields of every action, such as {"player": 0}.
    reset: further parameters of every reset, such as {"difficulty": "easy"}.
    instruction: the system message.
    max_turns: turn cap.
    rule: the episode's reward is the "last" one, the "best", or the "sum" of them.
    scale: what it is multiplied by; the result is clipped to [0, 1].
    success: reward from which an ended episode counts as solved.
    seconds: longest wait for one answer.

    Raises `InputError` for a bad option.
    """

    name = "openenv"
    number = "seed"

    def __init__(
        self,
        address: str,
        train: list[int],
        dev: list[int],
        test: list[int],
        action_field: str = "",
        observation_fields: list[str] | None = None,
        fixed: dict[str, Any] | None = None,
        reset: dict[str, Any] | None = None,
        instruction: str = INSTRUCTION,
        max_turns: int = 30,
        rule: Literal["last", "best", "sum"] = "last",
        scale: float = 1.0,
        success: float = 1.0,
        seconds: float = 60.0,
    ) -> None:
        self._check_options(options_of(locals()))
        check_address(address, "openenv.address")
        self._reach = Reach()

    def environment(self) -> OpenEnvEnvironment:
        return OpenEnvEnvironment(self._options, self._reach)


class OpenEnvEnvironment(EpisodeEnvironment):
    """One session of the server, opened at the first reset and again after a failure."""

    def __init__(self, options: Mapping[str, Any], reach: Reach) -> None:
        self._options, self._reach = options, reach
        self._address = options["address"].rstrip("/")
        self._fields: Fields | None = None
        self._session = ExitStack()
        self._socket: ClientConnection | None = None
        self._rewards: list[float] = []

    def reset(self, task: Task) -> str:
        """The first observation.

        Raises `InputError` for fields that the server's actions or observations do not have, and
        where it has no room for another session.
        """
        self._rewards, self._last = [], None
        fields, begun = self._reach.patiently(lambda: self._begin(task.payload["seed"]))
        observation = fields.show(begun)
        self._last = Step(observation, 0.0, terminated=bool(begun.get("done")), success=False)
        return observation

    def _act(self, action: str) -> Step:
        assert self._fields is not None, "step before reset"
        text = action.encode("utf-8", "replace").decode("utf-8")
        reply = self._ask("step", {**(self._options["fixed"] or {}), self._fields.action: text})
        if reply["type"] == "error":
            # A text that the server's action does not admit, such as an empty one, is the agent's doing.
            refusal = self._fields.refusal(reply["data"])
            if refusal is None:
                raise self._failure(reply["data"])
            return replace(self._before(), observation=refusal, score=None)
        answer = reply["data"]
        paid = answer.get("reward")
        if paid is not None:
            if not isinstance(paid, int | float):
                raise EnvironmentFailure(f"a reward is {paid!r}, not a number", where=self._address)
            self._rewards.append(float(paid))
        reward = clipped(episode_score(self._rewards, self._options["rule"], self._options["scale"]))
        done = bool(answer.get("done"))
        success = done and reward >= self._options["success"]
        score = None if paid is None else float(paid)
        return Step(self._fields.show(answer), reward, terminated=done, success=success, score=score)

    def close(self) -> None:
        """End the session; the server ends it too where the connection breaks."""
        self._last = None
        if self._socket is not None:
            with suppress(OSError, WebSocketException):
                self._socket.send(json.dumps({"type": "close"}))
        self._hang_up()

    def _begin(self, seed: int) -> tuple[Fields, dict[str, Any]]:
        """The fields there are and the answer to a reset, waiting a little for a session that has just been
        closed elsewhere."""
        if self._fields is None:
            self._fields = find_fields(self._schema(), self._options, self._address)
        parameters = {**(self._options["reset"] or {}), "seed": seed}
        until = time.monotonic() + ROOM_SECONDS
        while (reply := self._reset(parameters))["type"] == "error":
            error = reply["data"]
            if error.get("code") != "CAPACITY_REACHED":
                raise self._failure(error)
            self._hang_up()
            if time.monotonic() > until:
                most = error.get("max_sessions")
                held = counted(most, "session") if isinstance(most, int) else "no more sessions"
                problem = f"it holds {held} at a time, all taken"
                hint = "start it with a larger max_concurrent_envs, or lower rollout.slots"
                raise InputError(problem, where=self._address, hint=hint)
            time.sleep(0.1)
        return self._fields, reply["data"]

    def _reset(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a reset. The connection of earlier episodes may be gone, with its server or for being
        idle while a model was trained: then over a new one."""
        earlier = self._socket is not None
        try:
            return self._ask("reset", parameters)
        except EnvironmentFailure as failure:
            if not earlier or not isinstance(failure.__cause__, ConnectionClosed):
                raise
            return self._ask("reset", parameters)

    def _ask(self, message_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The server's reply, an observation or an error."""
        seconds = self._options["seconds"]
        try:
            if self._socket is None:
                self._socket = self._session.enter_context(self._connect(seconds))
            with suppress(ConnectionClosed):  # the reason of a refusal comes before the close
                self._socket.send(json.dumps({"type": message_type, "data": data}))
            reply = json.loads(self._socket.recv(timeout=seconds))
        except (OSError, WebSocketException, ValueError) as error:
            self._hang_up()
            problem = f"{type(error).__name__}: {error}" if str(error) else f"no answer in {seconds:g} s"
            raise EnvironmentFailure(problem, where=f"{self._address}/ws {message_type}") from error
        known = isinstance(reply, dict) and reply.get("type") in ("observation", "error")
        if not known or not isinstance(reply.get("data"), dict):
            self._hang_up()
            raise EnvironmentFailure(f"unknown answer {reply!r}", where=f"{self._address}/ws {message_type}")
        return reply

    def _connect(self, seconds: float) -> ClientConnection:
        with usable_proxy():
            return connect(
                f"ws{self._address[4:]}/ws",
                open_timeout=seconds,
                close_timeout=1.0,
                ping_interval=None,  # `seconds` decides when it is late
                max_size=LONGEST_ANSWER,
                proxy=None if on_this_machine(self._address) else True,
            )

    def _failure(self, error: Mapping[str, Any]) -> EnvironmentFailure:
        self._hang_up()
        problem = f"{error.get('message', 'unknown error')} ({error.get('code', 'without a code')})"
        return EnvironmentFailure(problem, where=self._address)

    def _hang_up(self) -> None:
        self._socket = None
        with suppress(OSError, WebSocketException):
            self._session.close()

    def _schema(self) -> dict[str, Any] | None:
        """What `/schema` tells; None where the server has none."""
        where = f"{self._address}/schema"
        try:
            with client(self._address, self._options["seconds"]) as asking, usable_proxy():
                reply = asking.get("/schema")
            if reply.status_code == httpx2.codes.NOT_FOUND:
                return None
            if not reply.is_success:
                raise EnvironmentFailure(refusal(reply), where=where)
            schema = reply.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise EnvironmentFailure(f"{type(error).__name__}: {error}", where=where) from error
        if not isinstance(schema, dict) or not isinstance(schema.get("action"), dict):
            raise EnvironmentFailure(f"unknown answer {schema!r}", where=where)
        return schema
