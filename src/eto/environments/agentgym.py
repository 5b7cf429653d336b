"""Environments behind an AgentGym server (Xi et al. 2024, arXiv:2406.04151), over HTTP.

The protocol: `POST /create` gives the id of a session, `POST /reset` with `id` and `data_idx` starts a
task in it, `POST /step` with `id` and `action` answers with `observation`, `reward` and `done`,
`GET /observation` repeats the observation, and `POST /close` ends the session where a server has it.
A reply `{"error": ...}` is a fault of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import httpx2

from eto.environments.ranges import disjoint_ranges
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task

INSTRUCTION = "You act in a text environment. Answer with one action."
SCORES = ("reward", "score")
RULES = ("last", "best", "sum")


class AgentGym:
    """Task suite over the data indices of a server.

    address: of the server, such as http://127.0.0.1:8000.
    train, dev, test: first data index of the split and the one after its last; they must not overlap.
    instruction: the system message.
    max_turns: turn cap.
    score: the reply's field that is scored: "reward", or "score" where a server sends both.
    scale: what it is multiplied by; 0.01 for scores up to 100. The result is clipped to [0, 1].
    rule: the episode's reward is the "last" one, the "best", or the "sum" of them.
    success: reward from which an ended episode counts as solved.
    seconds: longest wait for one answer.

    Raises `InputError` for a bad option.
    """

    name = "agentgym"
    splits = ("train", "dev", "test")

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
    ) -> None:
        self._options = {
            "address": address,
            "train": train,
            "dev": dev,
            "test": test,
            "instruction": instruction,
            "max_turns": max_turns,
            "score": score,
            "scale": scale,
            "rule": rule,
            "success": success,
            "seconds": seconds,
        }
        self._ranges = disjoint_ranges({"train": train, "dev": dev, "test": test}, self.name)
        for name, known in (("score", SCORES), ("rule", RULES)):
            if self._options[name] not in known:
                problem = f"unknown choice {self._options[name]!r}"
                raise InputError(problem, where=f"agentgym.{name}", mend=f"one of {', '.join(known)}")
        if not address.startswith(("http://", "https://")):
            mend = "for example http://127.0.0.1:8000"
            raise InputError(f"{address!r} is no address", where="agentgym.address", mend=mend)

    def tasks(self, split: str) -> list[Task]:
        """A task for each data index of `split`."""
        if split not in self.splits:
            mend = f"one of {', '.join(self.splits)}"
            raise InputError(f"unknown split {split!r}", where=self.name, mend=mend)
        return [
            Task(f"{self.name}/{number}", self.name, self.name, split, {"data_idx": number})
            for number in self._ranges[split]
        ]

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        return Message("system", self._options["instruction"]), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._options["max_turns"]

    def environment(self) -> AgentGymEnvironment:
        return AgentGymEnvironment(self._options)

    def expert_actions(self, task: Task, environment: Any) -> None:
        """None: the protocol has no experts; bring trajectories as a file."""
        return None

    def spec(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}:AgentGym", dict(self._options)


class AgentGymEnvironment:
    """One session of the server, opened at the first reset."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._client = httpx2.Client(base_url=options["address"], timeout=options["seconds"])
        self._session: int | None = None
        self._last: Step | None = None
        self._rewards: list[float] = []

    def reset(self, task: Task) -> str:
        """The task's text, where the server sends one, and the first observation."""
        if self._session is None:
            created = self._ask("create", {})
            # WebShop's server answers with the bare number.
            session = created.get("id", created.get("env_idx")) if isinstance(created, dict) else created
            if not isinstance(session, int):
                raise EnvironmentFailure(f"no session id in {created!r}", where="create")
            self._session = session
        self._rewards = []
        begun = self._ask("reset", {"id": self._session, "data_idx": task.payload["data_idx"]})
        texts = (begun.get("task_description"), begun.get("observation"))
        self._last = Step("", 0.0, terminated=False)
        return "\n".join(text.strip() for text in texts if isinstance(text, str) and text.strip())

    def step(self, action: str) -> Step:
        if self._last is None:
            raise RuntimeError("step before reset")
        if self._last.terminated:
            return replace(self._last, observation="The episode has ended.")
        text = action.encode("utf-8", "replace").decode("utf-8")
        answer = self._ask("step", {"id": self._session, "action": text})
        score, observation = (
            answer.get(self._options["score"]),
            answer.get("observation", answer.get("state")),
        )
        if not isinstance(score, int | float) or not isinstance(observation, str):
            raise EnvironmentFailure(
                f"no observation or {self._options['score']} in {answer!r}", where="step"
            )
        self._rewards.append(float(score) * self._options["scale"])
        chosen = {"last": self._rewards[-1], "best": max(self._rewards), "sum": sum(self._rewards)}
        reward = min(max(chosen[self._options["rule"]], 0.0), 1.0)
        done = bool(answer.get("done"))
        success = done and reward >= self._options["success"]
        self._last = Step(observation, reward, terminated=done, success=success, score=float(score))
        return self._last

    def close(self) -> None:
        """End the session on the server; a server without `/close` keeps it."""
        session, self._session, self._last = self._session, None, None
        if session is not None:
            # Where the server is gone, so is the session.
            with suppress(httpx2.HTTPError):
                self._client.post("/close", json={"id": session})
        self._client.close()

    def _ask(self, command: str, body: Mapping[str, Any]) -> Any:
        try:
            reply = self._client.post(f"/{command}", json=dict(body))
            reply.raise_for_status()
            found = reply.json()
        except (httpx2.HTTPError, ValueError) as error:
            where = f"{self._options['address']}/{command}"
            raise EnvironmentFailure(f"{type(error).__name__}: {error}", where=where) from error
        if isinstance(found, dict) and found.get("error"):
            raise EnvironmentFailure(str(found["error"]), where=f"{self._options['address']}/{command}")
        if not isinstance(found, dict) and command != "create":
            raise EnvironmentFailure(
                f"unknown answer {found!r}", where=f"{self._options['address']}/{command}"
            )
        return found
