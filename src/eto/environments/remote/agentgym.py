"""Environments behind an AgentGym server (Xi et al. 2024, arXiv:2406.04151), over HTTP.

The protocol: `POST /create` gives the id of a session, `POST /reset` with `id` and `data_idx` starts a
task in it, `POST /step` with `id` and `action` answers with `observation`, `reward` and `done`, and
`POST /close` ends the session where a server has it. A reply `{"error": ...}` is a fault of the server.

AgentGym's own servers vary in their words. Those of WebShop, SQLGym and the tools give a bare number,
ask for it as `env_idx`, and answer `/reset` with a text or with [text, null]; a step's text may be
called `state`. The task's number is `data_idx`, `session_id` (WebShop), `item_id` (SQLGym), `game`
(ALFWorld, maze), `seed` (Wordle) or `id` (tools). Which one, the server's `/openapi.json` tells.
WebArena's has none: it gives and asks for `env_idx`, and for `idx` with a `seed` of 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2

from eto.environments.remote.proxies import check_address, client, refusal, usable_proxy
from eto.environments.remote.reaching import Reach
from eto.environments.toolkit.scoring import clipped, episode_score
from eto.environments.toolkit.suite import INSTRUCTION, EpisodeEnvironment, NumberedSuite, options_of
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Task

SCORES = ("reward", "score")
TASK_FIELDS = ("data_idx", "session_id", "item_id", "game", "seed", "id")
"""What servers call a task's number, the surest first."""
CLOSE_SECONDS = 5.0
"""Longest wait for the end of a session: a server that is at work on it ends it afterwards."""
FIXED = {"world_type": "Text"}
"""Further fields that a server's `/reset` may ask for."""


class AgentGym(NumberedSuite):
    """Task suite over the data indices of a server.

    address: of the server, such as http://127.0.0.1:8000; LMRL-Gym's ends on /maze or /wordle.
    train, dev, test: first data index of the split and the one after its last; they must not overlap.
    instruction: the system message.
    max_turns: turn cap.
    score: the reply's field that is scored: "reward", or "score" where a server sends both.
    scale: what it is multiplied by; 0.01 for scores up to 100. The result is clipped to [0, 1].
    rule: the episode's reward is the "last" one, the "best", or the "sum" of them.
    success: reward from which an ended episode counts as solved.
    seconds: longest wait for one answer.
    task_field: what the server's `/reset` calls the data index; "" finds it out.

    Raises `InputError` for a bad option.
    """

    name = "agentgym"
    number = "data_idx"

    def __init__(
        self,
        address: str,
        train: list[int],
        dev: list[int],
        test: list[int],
        instruction: str = INSTRUCTION,
        max_turns: int = 30,
        score: Literal["reward", "score"] = "reward",
        scale: float = 1.0,
        rule: Literal["last", "best", "sum"] = "last",
        success: float = 1.0,
        seconds: float = 60.0,
        task_field: str = "",
    ) -> None:
        self._check_options(options_of(locals()))
        self._check_choice("score", SCORES)
        check_address(address, "agentgym.address")
        self._reach = Reach()

    def environment(self) -> AgentGymEnvironment:
        return AgentGymEnvironment(self._options, self._reach)


class AgentGymEnvironment(EpisodeEnvironment):
    """One session of the server, opened at the first reset."""

    def __init__(self, options: Mapping[str, Any], reach: Reach) -> None:
        self._options, self._reach = options, reach
        self._client = client(options["address"], options["seconds"])
        self._session: dict[str, int] | None = None  # its id, under the server's word for it
        self._task_field = ""
        self._fixed: dict[str, Any] = {}
        self._rewards: list[float] = []

    def reset(self, task: Task) -> str:
        """The task's text, where the server sends one, and the first observation.

        Raises `InputError` where the server's `/reset` has no field for the task's number.
        """
        self._rewards = []
        number = task.payload["data_idx"]
        begun = self._reach.patiently(lambda: self._begin(number))
        if isinstance(begun, list) and begun:
            begun = begun[0]
        texts = [begun]
        if isinstance(begun, dict):
            texts = [begun.get("task_description"), begun.get("observation")]
        texts = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
        if not texts:
            raise EnvironmentFailure(f"no observation in {begun!r}", where=self._where("reset"))
        self._last = Step("", 0.0, terminated=False)
        return "\n".join(texts)

    def _act(self, action: str) -> Step:
        text = action.encode("utf-8", "replace").decode("utf-8")
        answer = self._ask("step", {**(self._session or {}), "action": text})
        if not isinstance(answer, dict):
            raise EnvironmentFailure(f"unknown answer {answer!r}", where=self._where("step"))
        score = answer.get(self._options["score"])
        observation = answer.get("observation", answer.get("state"))
        if not isinstance(score, int | float) or not isinstance(observation, str):
            problem = f"no observation or {self._options['score']} in {answer!r}"
            raise EnvironmentFailure(problem, where=self._where("step"))
        self._rewards.append(float(score))
        reward = clipped(episode_score(self._rewards, self._options["rule"], self._options["scale"]))
        done = bool(answer.get("terminated", answer.get("done")))
        return Step(
            observation,
            reward,
            terminated=done,
            truncated=bool(answer.get("truncated")) and not done,
            success=done and reward >= self._options["success"],
            score=float(score),
        )

    def close(self) -> None:
        """End the session on the server; a server without `/close` keeps it."""
        self._last = None
        self._end_session()
        self._client.close()

    def _begin(self, number: int) -> Any:
        """The answer to a reset. A session of earlier episodes may be gone, with its server or for being
        idle while a model was trained: then in a new one."""
        if self._session is not None:
            try:
                return self._reset(number)
            except EnvironmentFailure as failure:
                if isinstance(failure.__cause__, httpx2.TimeoutException):
                    raise
                self._end_session()
        self._create()
        return self._reset(number)

    def _reset(self, number: int) -> Any:
        return self._ask("reset", {**self._fixed, self._task_field: number, **(self._session or {})})

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            # Where the server is gone, so is the session.
            with suppress(httpx2.HTTPError):
                self._client.post("/close", json=session, timeout=CLOSE_SECONDS)

    def _create(self) -> None:
        """A new session, and how its server wants to be asked."""
        created = self._ask("create", {"id": 0})  # the tools' servers want a task at once
        word, session = "env_idx", created
        if isinstance(created, dict):
            word = "id" if "id" in created else "env_idx"
            session = created.get(word)
        if not isinstance(session, int):
            raise EnvironmentFailure(f"no session id in {created!r}", where=self._where("create"))
        self._session = {word: session}
        known, wanted = self._reset_fields(), self._options["task_field"]
        if known is None:
            bare = not isinstance(created, dict)
            self._task_field = wanted or ("data_idx" if word == "id" else "session_id" if bare else "idx")
            self._fixed = {"seed": 0} if self._task_field == "idx" else {}
            return
        fits = [name for name in TASK_FIELDS if name in known and name != word]
        if (wanted and wanted not in known) or not (wanted or fits):
            problem = f"{wanted!r} is not a field of its /reset" if wanted else "no field for a task's number"
            hint = f"agentgym.task_field is one of {', '.join(name for name in known if name != word)}"
            raise InputError(problem, where=self._where("reset"), hint=hint)
        self._task_field = wanted or fits[0]
        self._fixed = {name: value for name, value in FIXED.items() if name in known}

    def _reset_fields(self) -> list[str] | None:
        """The fields of a `/reset`, as the server describes them; None where it does not."""
        base = urlsplit(self._options["address"])
        try:
            described = self._client.get(f"{base.scheme}://{base.netloc}/openapi.json").json()
            asked = described["paths"][f"{base.path.rstrip('/')}/reset"]["post"]["requestBody"]
            schema = asked["content"]["application/json"]["schema"]
            if "$ref" in schema:
                schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            return list(schema["properties"])
        except (httpx2.HTTPError, ValueError, LookupError, TypeError):
            return None

    def _where(self, command: str) -> str:
        return f"{self._options['address']}/{command}"

    def _ask(self, command: str, body: Mapping[str, Any]) -> Any:
        try:
            with usable_proxy():
                reply = self._client.post(f"/{command}", json=dict(body))
            if not reply.is_success:
                raise EnvironmentFailure(refusal(reply), where=self._where(command))
            answer = reply.json()
        except (httpx2.HTTPError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise EnvironmentFailure(problem, where=self._where(command)) from error
        if isinstance(answer, dict) and answer.get("error"):
            raise EnvironmentFailure(str(answer["error"]), where=self._where(command))
        return answer
