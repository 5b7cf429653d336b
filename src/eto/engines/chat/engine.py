"""Conversations sent to a chat server as messages, and actions read from its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eto.data.texts import brief, whole
from eto.engines.event_loop import LoopThread
from eto.engines.scripted import CONTEXT, END, TextRenderer
from eto.engines.server.connection import SHOWN, Answer, Connection, Lost
from eto.engines.server.engine import FAULTS_IN_A_ROW
from eto.engines.server.remedies import SAME_COMMAND, remedy, too_long
from eto.errors import EngineFailure, InputError
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings.engines import ChatSettings

CHAT = "/v1/chat/completions"
WHERE = "rollout.chat"
NO_CHAT_SERVER = f"give in {WHERE}.url the address of a server with {CHAT}, without a path"


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
        body = self._body(ids, sampling)
        answer = await self._loop.run(self._connection.ask(CHAT, body))
        text, cut = self._read(answer, body) if isinstance(answer, Answer) else (_lost(answer), False)
        if isinstance(text, EngineFault):
            self._count(text, body)
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
        talk = self.renderer.messages(ids)
        messages = [{"role": each.role, "content": whole(each.content)} for each in talk]
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": messages,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        body |= self._settings.body
        return {name: value for name, value in body.items() if value is not None}

    def _count(self, fault: EngineFault, body: Mapping[str, Any]) -> None:
        self._faults += fault.retryable  # a conversation that is too long says nothing of the server
        if self._faults >= FAULTS_IN_A_ROW:
            problem = f"{self._faults} requests in a row had no answer that can be used; the last: "
            raise EngineFailure(
                f"{problem}{fault.problem}\n  asked: {self._shape(body)}",
                where=self._settings.url,
                hint=f"{fault.hint}; {SAME_COMMAND}",
            )

    def _shape(self, body: Mapping[str, Any]) -> str:
        """A request as an error shows it: without headers, and without the texts."""
        length = sum(len(message["content"]) for message in body["messages"])
        talk = f"{len(body['messages'])} messages of {length} characters"
        others = ", ".join(f"{name} {brief(value)}" for name, value in body.items() if name != "messages")
        return f"POST {self._connection.url}{CHAT} with {talk}, {others}"

    def _read(self, answer: Answer, body: Mapping[str, Any]) -> tuple[str | EngineFault, bool]:
        """The text of an answer, and whether it was cut at the most tokens; or why there is none. Raises
        `InputError` where the server refuses the request as such."""
        if too_long(answer):
            return EngineFault(f"the conversation does not fit: {answer.message}", retryable=False), False
        if answer.refused:
            problem = f"{self._connection.url} refused with {answer.status}: {answer.message}"
            hint = remedy(answer, WHERE)
            raise InputError(f"{problem}\n  asked: {self._shape(body)}", where=WHERE, hint=hint)
        if answer.status != 200:
            problem = f"it answered {answer.status}: {answer.message}"
            return EngineFault(problem, hint=remedy(answer, WHERE)), False
        return _text(answer)


def _lost(lost: Lost) -> EngineFault:
    return EngineFault(lost.problem, hint=remedy(lost, WHERE))


def _text(answer: Answer) -> tuple[str | EngineFault, bool]:
    """What it wrote, and whether that was cut. An end without a word is an empty action."""
    choices = answer.content.get("choices") if isinstance(answer.content, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message, cut = choice.get("message"), choice.get("finish_reason") == "length"
    if not isinstance(message, dict):
        problem = f"its answer is not a chat completion: {answer.begins!r}"
        return EngineFault(problem, hint=NO_CHAT_SERVER), False
    text = message.get("content")
    if cut and not text:
        problem = "it wrote no text within the most tokens, as models do that think before they answer"
        return EngineFault(problem, hint="raise rollout.max_action_tokens"), False
    if not isinstance(text, str):
        problem = f"its answer has no text: {brief(message, SHOWN)}"
        return EngineFault(problem, hint="let a model answer that writes text"), False
    return whole(text), cut
