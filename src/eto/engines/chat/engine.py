"""Conversations sent to a chat server as messages, and actions read from its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eto.data.texts import shorten
from eto.engines.event_loop import LoopThread
from eto.engines.scripted import CONTEXT, END, TextRenderer
from eto.engines.server.connection import Answer, Connection, Lost
from eto.engines.server.engine import FAULTS_IN_A_ROW, GO_ON
from eto.errors import EngineFailure, InputError
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings.engines import ChatSettings

CHAT = "/v1/chat/completions"
TOO_LONG = ("context_length", "maximum context", "context window", "too long")
"""How servers say that a conversation does not fit."""
SHOWN = 300
TOO_MANY = 429
"""The status with which services limit how often they are asked."""


class ChatEngine:
    """An engine of texts; see `eto.protocols.Engine`. Log-probs are 0, for nobody tells them."""

    max_context = CONTEXT

    def __init__(self, settings: ChatSettings, key: str | None = None) -> None:
        self.renderer = TextRenderer()
        self.version = 0
        self._settings = settings
        self._loop = LoopThread("chat")
        self._connection = Connection(settings.url, settings, key)
        self._faults = 0
        self._closed = False

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion | EngineFault:
        """The server's reply to the conversation. Raises `InputError` for a request that it refuses,
        `EngineFailure` where it gives no usable answer again and again."""
        if self._closed:
            return EngineFault("the engine is closed", retryable=False)
        answer = await self._loop.run(self._connection.ask(CHAT, self._body(ids, sampling), busy=TOO_MANY))
        text, cut = _read(answer) if isinstance(answer, Answer) else (_lost(answer), False)
        if isinstance(text, EngineFault):
            self._count(text)
            return text
        self._faults = 0
        written = (self.renderer.id_of(text),) if cut else (self.renderer.id_of(text), END)
        return Completion(written, (0.0,) * len(written), "length" if cut else "stop", self.version)

    async def load(self, directory: Path) -> None:
        """Raises `InputError`: it takes no weights."""
        raise InputError("a chat server takes no weights", where="rollout.engine chat")

    async def sleep(self) -> None:
        """Nothing to free."""

    async def release(self, session: str) -> None:
        """Nothing is cached here."""

    async def close(self) -> None:
        """End the connections."""
        if not self._closed:
            self._closed = True
            await self._loop.run(self._connection.close())
            self._loop.close()

    def _body(self, ids: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        messages = [{"role": each.role, "content": each.content} for each in self.renderer.messages(ids)]
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": messages,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        body |= self._settings.body
        return {name: value for name, value in body.items() if value is not None}

    def _count(self, fault: EngineFault) -> None:
        self._faults += fault.retryable  # a conversation that is too long says nothing of the server
        if self._faults >= FAULTS_IN_A_ROW:
            problem = f"{self._faults} requests in a row had no answer that can be used; the last: "
            raise EngineFailure(problem + fault.problem, where=self._settings.url, hint=GO_ON)


def _lost(lost: Lost) -> EngineFault:
    return EngineFault(lost.problem)


def _read(answer: Answer) -> tuple[str | EngineFault, bool]:
    """The text of an answer, and whether it was cut at the most tokens; or why there is none. Raises
    `InputError` where the server refuses the request as such."""
    if answer.status >= 500 or answer.status == TOO_MANY:
        return EngineFault(f"HTTP status {answer.status}: {answer.message}"), False
    if answer.status >= 400:
        if any(words in str(answer.content).lower() for words in TOO_LONG):
            return EngineFault(f"the conversation does not fit: {answer.message}", retryable=False), False
        hint = "rollout.chat: see to model, key_variable and body"
        raise InputError(f"the server refuses: {answer.message}", where="rollout.chat", hint=hint)
    choices = answer.content.get("choices") if isinstance(answer.content, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str) or not text:
        return EngineFault(f"its answer has no text: {shorten(str(answer.content), SHOWN)}"), False
    return text, choice.get("finish_reason") == "length"
