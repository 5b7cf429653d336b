"""Requests of many episodes, decoded together step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from eto.engines.in_process.acting_model import acting_copy, acting_model
from eto.engines.in_process.conversation import Conversation
from eto.engines.in_process.decoder import Decoder, Predictions
from eto.engines.in_process.ngram_drafter import NgramDrafter
from eto.engines.in_process.sampling import Continuation
from eto.engines.turns import others_first
from eto.errors import InputError
from eto.protocols import Completion, EngineFault, Finish, Sampling

NO_MEMORY = ("allocate memory", "out of memory", "not enough memory")
"""Parts of the messages of torch's RuntimeErrors that mean that memory ran out."""


class InProcessEngine:
    """Decodes on a `transformers` model in this process, in the turns of the caller's event loop.

    A step decodes one token, and those guessed right, of every request that is pending; then the loop has
    its turn. It may serve one event loop after another, one at a time. Log-probs come from the logits that
    were sampled from, in fp32 and before temperature.

    A checkpoint is played while the learner that wrote it trains on, by an engine of its own:

        engine = InProcessEngine(learner.model, max_context=learner.max_context)
        await engine.load(directory)
        frozen = Actor(engine, learner.renderer, "frozen")
    """

    def __init__(
        self,
        model: Any,
        *,
        max_context: int,
        dtype: torch.dtype | None = None,
        drafter: NgramDrafter | None = None,
        fast_paths: bool = True,
    ) -> None:
        """`model` keeps its weights and is copied, in `dtype`, by default its own; where the type is the
        same both share them in memory, so `sleep` must come before they are trained. `drafter`: guesses
        how actions continue, which saves steps and changes none; None: no guesses. `fast_paths`: those of
        a CPU."""
        self.max_context = max_context
        self.version = 0
        self._device, self._dtype = model.device, dtype or model.dtype
        self._drafter, self._fast_paths = drafter, fast_paths
        self.decoder: Decoder | None = Decoder(acting_copy(model, self._dtype), fast_paths=fast_paths)
        """None while it sleeps."""
        self._sessions: dict[str, Conversation] = {}
        self._requests: dict[asyncio.Future[bool], Continuation] = {}
        self._stepping: asyncio.Task[None] | None = None

    @property
    def sessions(self) -> int:
        """Sessions for which something is cached."""
        return len(self._sessions)

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion | EngineFault:
        """Continue `ids`; see `Engine`. Fewer than `max_tokens` where the context is full before."""
        if not ids or sampling.max_tokens < 1:
            raise InputError("a request needs a token of prompt and one to write", where="generate")
        if self.decoder is None:
            return EngineFault("the engine has no weights; it sleeps, or is closed", retryable=False)
        if (room := self.max_context - len(ids)) < 1:
            problem = f"the prompt has {len(ids)} tokens, and the context holds {self.max_context}"
            return EngineFault(problem, retryable=False)
        if room < sampling.max_tokens:
            sampling = Sampling(room, sampling.temperature, sampling.seed, sampling.stop)
        conversation = self._conversation(ids, session)
        continuation = Continuation(conversation, sampling)
        answer = asyncio.get_running_loop().create_future()
        self._requests[answer] = continuation
        self._step_on()
        try:
            answered = await answer
        finally:
            self._requests.pop(answer, None)
            if session is None or self._sessions.get(session) is not conversation:
                conversation.forget()
        if not answered:
            return EngineFault("the memory for keys and values ran out")
        if self._drafter is not None:
            total = len(conversation.ids)
            self._drafter.learn(conversation.ids, range(total - len(continuation.ids), total))
        finish: Finish = "stop" if continuation.stopped else "length"
        return Completion(tuple(continuation.ids), tuple(continuation.log_probs), finish, self.version)

    async def load(self, directory: Path) -> None:
        """Act with the model in `directory`, as `Engine.load`."""
        while self._requests:
            await asyncio.wait(list(self._requests))
        await self.sleep()
        model = acting_model(Path(directory), self._device, self._dtype)
        self.decoder = Decoder(model, fast_paths=self._fast_paths)
        self.version += 1

    async def sleep(self) -> None:
        """Free weights and caches until the next `load`. Requests under way are faults."""
        self.drop_weights()

    def drop_weights(self) -> None:
        """What `sleep` does, for callers without an event loop."""
        decoder, self.decoder = self.decoder, None
        if decoder is not None:
            decoder.close()
        for conversation in self._sessions.values():
            conversation.forget()
        self._sessions.clear()
        _answer(self._requests, False)

    async def release(self, session: str) -> None:
        """Free the cache of `session`; a request of it that is under way still gets its answer."""
        conversation = self._sessions.pop(session, None)
        if conversation is not None and not self._is_busy(conversation):
            conversation.forget()

    async def close(self) -> None:
        """Free weights and caches, and end the threads."""
        await self.sleep()

    # -- inside -----------------------------------------------------------------------

    def _conversation(self, ids: Sequence[int], session: str | None) -> Conversation:
        """That of `session`, continued with `ids`; a new one where there is none or it is being used."""
        known = self._sessions.get(session) if session is not None else None
        if known is not None and not self._is_busy(known):
            known.replace(ids)
            return known
        conversation = Conversation(list(ids))
        if session is not None and known is None:
            self._sessions[session] = conversation
        return conversation

    def _is_busy(self, conversation: Conversation) -> bool:
        return any(request.conversation is conversation for request in self._requests.values())

    def _step_on(self) -> None:
        """Steps run in this event loop until every request is answered."""
        loop, stepping = asyncio.get_running_loop(), self._stepping
        if stepping is None or stepping.done() or stepping.get_loop() is not loop:
            self._stepping = loop.create_task(self._steps())
            self._stepping.add_done_callback(self._pass_on)

    async def _steps(self) -> None:
        while self._requests:
            await others_first()
            requests = {answer: one for answer, one in self._requests.items() if not answer.done()}
            if requests and self.decoder is not None:
                self._step(self.decoder, requests)

    def _step(self, decoder: Decoder, requests: dict[asyncio.Future[bool], Continuation]) -> None:
        batch = [request.conversation for request in requests.values()]
        if self._drafter is not None:
            for request in requests.values():
                left = request.sampling.max_tokens - len(request.ids) - 1
                request.conversation.draft = self._drafter.guess(
                    request.conversation.ids, left, len(requests)
                )
        predictions = _within_memory(decoder, batch)
        if predictions is None:
            for conversation in batch:
                conversation.forget()
            _answer(requests, False)
            return
        _answer([a for (a, r), p in zip(requests.items(), predictions, strict=True) if r.extend(p)], True)

    def _pass_on(self, stepping: asyncio.Task[None]) -> None:
        """A step that raised raises for everyone who waits for it."""
        error = None if stepping.cancelled() else stepping.exception()
        if error is not None:
            for answer in self._requests:
                if not answer.done():
                    answer.set_exception(error)


def _answer(answers: Iterable[asyncio.Future[bool]], answered: bool) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_result(answered)


def _within_memory(decoder: Decoder, batch: list[Conversation]) -> list[Predictions] | None:
    """The predictions of a step; None where memory ran out."""
    try:
        return decoder.step(batch)
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, RuntimeError) and not any(part in str(error) for part in NO_MEMORY):
            raise
        return None
