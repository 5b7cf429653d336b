"""`transformers serve` as a peer of the rollouts benchmark: its process and a policy that asks it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from httpx2 import AsyncClient
from transformers.utils.import_utils import is_serve_available

from benchmarks.peers_rollouts import as_chat
from eto.errors import MissingRequirement
from eto.protocols import Reply, ReplyEnd
from eto.rendering import Renderer
from eto.types import Message

POLL_SECONDS = 0.005
"""How long the client waits for an answer before it looks after the simulators again."""
START_SECONDS = 300.0
PAGE = 32
"""Tokens of a page of the server's cache."""
CONTEXT = 2048
"""Tokens of the longest conversation the cache is sized for."""


@contextmanager
def server(model: Path, dtype: str, slots: int) -> Iterator[str]:
    """Base address of `transformers serve --continuous-batching`, killed at the end of the block.

    It has this process's thread settings and gets a cache that holds `slots` conversations of
    2,048 tokens, in pages small enough that a turn finds nearly its whole history there; left
    alone it takes 60% of the machine's memory and pages of 256 tokens.
    """
    if not is_serve_available():
        raise MissingRequirement(
            "`transformers serve` needs packages that are missing", mend="pip install 'eto-agent[bench]'"
        )
    port = _free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    command += ["--continuous-batching", "--device", "cpu", "--dtype", dtype, "--log-level", "error"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--cb-block-size", str(PAGE)]
    command += ["--cb-num-blocks", str(slots * CONTEXT // PAGE), "--cb-max-batch-tokens", str(CONTEXT)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, address, log)
            yield address
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    """Where Linux offers it: the server is killed even if this process never reaches its `finally`."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _wait_until_ready(process: subprocess.Popen, address: str, log: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (URLError, TimeoutError):
            time.sleep(0.2)
    log.seek(0)
    raise RuntimeError(f"the server did not start: {log.read()[-2000:].decode(errors='replace')}")


@dataclass(eq=False, slots=True)
class Chat:
    """One conversation with the server."""

    messages: list[dict[str, str]]


class ServedPolicy:
    """A policy behind an OpenAI-compatible server; greedy; each request carries the whole history.

    Requests run side by side on one asyncio client in a thread of its own. Raises RuntimeError
    where the server refuses one.
    """

    name = "served"
    tokenizer_id = None

    def __init__(self, address: str, model: Path, max_action_tokens: int = 32) -> None:
        self._model, self._max_action_tokens = str(model), max_action_tokens
        self._client = AsyncClient(base_url=address, timeout=600.0, trust_env=False)
        self._answers: queue.SimpleQueue[tuple[Chat, Future]] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def ask(self, chat: list[dict[str, str]]) -> dict[str, Any]:
        """The server's whole answer to one conversation."""
        return asyncio.run_coroutine_threadsafe(self._post(chat), self._loop).result()

    def open(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> Chat:
        assert temperature == 0, "greedy only"
        return Chat(as_chat(messages))

    def submit(self, session: Chat, observation: str | None = None) -> None:
        if observation is not None:
            session.messages.append({"role": "user", "content": observation})
        future = asyncio.run_coroutine_threadsafe(self._post(session.messages), self._loop)
        future.add_done_callback(lambda done: self._answers.put((session, done)))

    def poll(self) -> list[Reply]:
        replies = []
        try:
            answer = self._answers.get(timeout=POLL_SECONDS)
            while True:
                replies.append(self._reply(*answer))
                answer = self._answers.get_nowait()
        except queue.Empty:
            return replies

    def release(self, session: Chat) -> None:
        """Nothing to do: the server forgets a request once it is answered."""

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _reply(self, session: Chat, done: Future) -> Reply:
        choice = done.result()["choices"][0]
        text = choice["message"]["content"] or ""
        session.messages.append({"role": "assistant", "content": text})
        end = ReplyEnd.LENGTH if choice["finish_reason"] == "length" else ReplyEnd.END_OF_TURN
        return Reply(session, text, None, end)

    async def _post(self, chat: list[dict[str, str]]) -> dict[str, Any]:
        body = {
            "model": self._model,
            "messages": chat,
            "temperature": 0.0,
            "max_tokens": self._max_action_tokens,
        }
        response = await self._client.post("/v1/chat/completions", json=body)
        if response.status_code != 200:
            raise RuntimeError(f"the server answered {response.status_code}: {response.text[:500]}")
        return json.loads(response.text)


def check_prompt(policy: ServedPolicy, renderer: Renderer) -> None:
    """First answer of the server; raises AssertionError if it lays conversations out differently."""
    messages = [
        Message("system", "Answer briefly."),
        Message("user", "Count."),
        Message("assistant", "One."),
        Message("user", "On."),
    ]
    ours = len(renderer.prompt_ids(messages))
    theirs = policy.ask(as_chat(messages))["usage"]["prompt_tokens"]
    assert theirs == ours, f"the server makes {theirs} tokens of a prompt of {ours}"
