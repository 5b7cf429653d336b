"""One server as an engine uses it: asked, given new weights, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from eto.engines.server.connection import Answer, Connection, Lost
from eto.engines.server.remedies import remedy
from eto.engines.server.wire import (
    COMPLETIONS,
    LARGEST,
    completion_request,
    read_completion,
    read_scores,
    request_shape,
    scoring_request,
    versions_of,
)
from eto.errors import EngineFailure, InputError
from eto.protocols import Completion, EngineFault, Sampling
from eto.settings.engines import ClientSettings

CONTROL_SECONDS = 30.0
"""Longest wait for an answer that takes no work."""
WHERE = "rollout.server"
NO_TOKEN_SERVER = "use a server that takes and returns token ids in /v1/completions, such as vLLM"
NO_MODEL_SERVER = "give in rollout.server.urls the address of a model server such as vLLM, without a path"


@dataclass(frozen=True, slots=True)
class Served:
    """What a server makes of a text: by this it is seen which weights it acts with."""

    url: str
    ids: tuple[int, ...]
    """The text and the likeliest token after it."""
    scores: tuple[float, ...]
    """Log-probs of `ids` from the second on, computed without what is cached: `[len(ids) - 1]`."""
    written: float
    """Log-prob of the last of `ids` when it was written, computed with what is cached."""


class Replica:
    """A server that somebody else started. All of it runs in the engine's event loop."""

    section = WHERE
    """Of the recipe."""

    def __init__(self, connection: Connection, settings: ClientSettings, model: str | None = None) -> None:
        self.connection, self.settings = connection, settings
        self.model = model or ""
        self.version_name = ""
        """By which the server calls the weights we gave it; "" before that."""
        self.down = False
        """Whether it is given up."""
        self.sessions: set[str] = set()
        self.vocabulary = LARGEST
        """The number of ids that the model has, where it is known."""

    @property
    def url(self) -> str:
        return self.connection.url

    @property
    def load_now(self) -> int:
        """What there is to do for it."""
        return self.connection.under_way + len(self.sessions)

    async def complete(
        self, ids: Sequence[int], sampling: Sampling, version: int
    ) -> Completion | EngineFault:
        """Continue `ids`. Raises `InputError` for a request that the server refuses, `EngineFailure` where
        it acts with weights that are not ours."""
        answer = await self._ask(completion_request(self.model, ids, sampling), ids, sampling)
        if isinstance(answer, EngineFault):
            return answer
        self._check_version(answer.content)
        return self._named(read_completion(answer.content, ids, sampling, version, self.vocabulary))

    async def served(self, probe: Sequence[int]) -> Served | EngineFault:
        """What it makes of the text `probe`."""
        written = await self.complete(probe, Sampling(1), 0)
        if isinstance(written, EngineFault):
            return written
        ids = (*probe, *written.ids)
        answer = await self._ask(scoring_request(self.model, ids), ids, Sampling(1))
        if isinstance(answer, EngineFault):
            return answer
        scores = self._named(read_scores(answer.content, ids))
        if isinstance(scores, EngineFault):
            return scores
        return Served(self.url, ids, tuple(scores), written.log_probs[0])

    async def greet(self, context: int) -> None:
        """Find out what it serves. Raises `InputError` where that is not the model's name or a context of
        `context` tokens, or it takes no token ids; `EngineFailure` where it does not answer."""
        answer = await self.connection.control("/v1/models", seconds=CONTROL_SECONDS)
        asked = f"GET {self.url}/v1/models"
        if isinstance(answer, Answer) and answer.refused:
            raise self._refused(answer, asked)
        if isinstance(answer, Lost) or answer.status != 200:
            problem = answer.problem if isinstance(answer, Lost) else answer.message
            raise EngineFailure(f"{problem}\n  asked: {asked}", where=self.url, hint=self._remedy(answer))
        if (served := _models(answer.content)) is None:
            problem = f"it lists no models: its answer begins {answer.begins!r}\n  asked: {asked}"
            raise InputError(problem, where=self.url, hint=NO_MODEL_SERVER)
        if not self.model and len(served) == 1:
            [self.model] = served
        if self.model not in served:
            names = ", ".join(served) or "none"
            several = "it serves several models" if served else "it serves no model"
            problem = f"it serves no model {self.model!r}" if self.model else several
            hint = "set rollout.server.model to one of them"
            raise InputError(f"{problem}; it lists {names}", where=self.url, hint=hint)
        holds = served[self.model]
        if holds is not None and holds < context:
            raise InputError(
                f"its context holds {holds} tokens, and the recipe's {context}",
                where=self.url,
                hint=f"start it with --max-model-len {context}, or set model.max_context to {holds}",
            )

    async def check_ids(self, probe: Sequence[int]) -> None:
        """Raises `InputError` where it does not take and return token ids, `EngineFailure` where it does not
        answer."""
        await self._resume()  # a run that was killed while it changed the weights left it paused
        ids, sampling = probe[:4], Sampling(1)
        asked = f"\n  asked: {request_shape(self.url, ids, sampling)}"
        answer = await self._ask(completion_request(self.model, ids, sampling), ids, sampling)
        if isinstance(answer, EngineFault):
            raise EngineFailure(answer.problem + asked, where=WHERE, hint=answer.hint)
        read = self._named(read_completion(answer.content, ids, sampling))
        if isinstance(read, EngineFault):
            raise InputError(read.problem + asked, where=WHERE, hint=NO_TOKEN_SERVER)

    async def load(self, directory: Path) -> None:
        """Act with the weights in `directory`, which the server reads itself; requests under way are answered
        by the old ones first. Raises `InputError` where it lets nobody do that, `EngineFailure` where it
        fails."""
        check_weights(directory)
        seconds = max(self.settings.seconds, CONTROL_SECONDS)
        try:
            self._check_done(
                await self.connection.control("/pause?mode=wait", {}, seconds=seconds), directory
            )
            # Paused with `wait`, it has dropped what it cached under the old weights.
            call = {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}}
            reloaded = await self.connection.control("/collective_rpc", call, seconds=seconds)
            self._check_done(reloaded, directory)
            name = f"eto-{uuid4().hex[:12]}"
            told = await self.connection.control(
                "/update_weight_version", {"new_version": name}, seconds=CONTROL_SECONDS
            )
            self.version_name = name if isinstance(told, Answer) and told.status == 200 else ""
        finally:
            resumed = await self._resume()
        self._check_done(resumed, directory)

    async def renew(self, directory: Path) -> None:
        """Begin again with the weights in `directory`, after `load` left others. Raises `EngineFailure`: a
        server that somebody else started is not ours to start."""
        raise EngineFailure(
            f"it still does not act with the weights in {directory}",
            where=self.url,
            hint="start it on that directory, and see to it that it reads the same files as this machine",
        )

    async def sleep(self) -> None:
        """Nothing: it is not ours to stop."""

    async def close(self) -> None:
        """Close the connections; the server runs on."""
        await self.connection.close()

    # -- inside -----------------------------------------------------------------------

    async def _mend(self, failed: Answer | Lost) -> bool:
        """Look after the server once a request failed; whether it may be sent again at once."""
        return False

    async def _ask(
        self, body: Mapping[str, Any], ids: Sequence[int], sampling: Sampling
    ) -> Answer | EngineFault:
        answer = await self.connection.ask(COMPLETIONS, body, self._mend)
        if isinstance(answer, Lost):
            if not answer.stalled and await self._gone():
                self.down = True
            return EngineFault(f"{self.url}: {answer.problem}", hint=self._remedy(answer))
        return self._usable(answer, request_shape(self.url, ids, sampling))

    def _usable(self, answer: Answer, asked: str) -> Answer | EngineFault:
        """An answer with content. Raises `InputError` for a request that is refused."""
        if answer.refused:
            raise self._refused(answer, asked)
        if answer.status != 200:
            return EngineFault(f"{self.url}: {answer.message}", hint=self._remedy(answer))
        if answer.content is None:
            problem = f"{self.url}: its answer is not a completion, nor JSON: {answer.begins!r}"
            return EngineFault(problem, hint=NO_TOKEN_SERVER)
        return answer

    async def _resume(self) -> Answer | Lost:
        return await self.connection.control("/resume", {}, seconds=CONTROL_SECONDS)

    async def _gone(self) -> bool:
        return isinstance(await self.connection.control("/health", seconds=CONTROL_SECONDS), Lost)

    def _remedy(self, failed: Answer | Lost) -> str:
        return remedy(failed, self.section)

    def _refused(self, answer: Answer, asked: str) -> InputError:
        problem = f"{self.url} refused with {answer.status}: {answer.message}\n  asked: {asked}"
        return InputError(problem, where=self.section, hint=self._remedy(answer))

    def _named(self, result: Any) -> Any:
        if isinstance(result, EngineFault):
            return EngineFault(f"{self.url}: {result.problem}", result.retryable, NO_TOKEN_SERVER)
        return result

    def _check_version(self, content: Any) -> None:
        """Another run, or a restart by somebody else, has changed its weights: nothing it says is the
        agent's."""
        if self.version_name and any(name != self.version_name for name in versions_of(content)):
            raise EngineFailure(
                "its weights were changed by somebody else in the meantime",
                where=self.url,
                hint="let one run alone use a server; the same command goes on where this one stopped",
            )

    def _check_done(self, answer: Answer | Lost, directory: Path) -> None:
        if isinstance(answer, Answer) and answer.status == 200:
            return
        if isinstance(answer, Answer) and answer.status == 404:
            raise InputError(
                "it cannot be given new weights",
                where=self.url,
                hint="start it with VLLM_SERVER_DEV_MODE=1, reachable by nobody else",
            )
        problem = answer.problem if isinstance(answer, Lost) else answer.message
        raise EngineFailure(
            f"it did not take the weights in {directory}: {problem}",
            where=self.url,
            hint="it must read the same files as this machine; its own log says more",
        )


def check_weights(directory: Path) -> None:
    """Raises `InputError` where a server cannot read weights from `directory`. Asked to try, it would be left
    with none."""
    if not (directory / "config.json").is_file() or not any(directory.glob("*.safetensors")):
        problem = "holds no model: config.json and *.safetensors are needed"
        raise InputError(problem, where=str(directory), hint="give a directory that `save_pretrained` wrote")


def _models(content: Any) -> dict[str, int | None] | None:
    """Served name -> length of its context, where the server says it; None where it is no list of models."""
    listed = content.get("data") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return None
    cards = [card for card in listed if isinstance(card, dict)]
    lengths = ((card.get("id"), card.get("max_model_len")) for card in cards)
    return {name: length if type(length) is int else None for name, length in lengths if type(name) is str}
