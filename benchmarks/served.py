"""`transformers serve` as a peer of the rollouts benchmark: its process and an engine that asks it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from httpx2 import AsyncClient
from transformers.utils.import_utils import is_serve_available

from benchmarks.peers_rollouts import as_chat
from eto.engines.scripted import ScriptedEngine
from eto.errors import MissingRequirement
from eto.protocols import Completion, Sampling
from eto.tokens.rendering import Renderer
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
            "`transformers serve` needs packages that are missing", hint="pip install 'eto-agent[bench]'"
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


class ServedEngine(ScriptedEngine):
    """An OpenAI-compatible server as an engine; greedy; each request carries the whole history, as text.

    Requests run side by side on one asyncio client in a thread of its own. Raises RuntimeError
    where the server refuses one.
    """

    def __init__(self, address: str, model: Path) -> None:
        super().__init__(lambda _: "")
        self._model = str(model)
        self._client = AsyncClient(base_url=address, timeout=600.0, trust_env=False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def ask(self, chat: list[dict[str, str]], max_tokens: int = 32) -> dict[str, Any]:
        """The server's whole answer to one conversation."""
        return asyncio.run_coroutine_threadsafe(self._post(chat, max_tokens), self._loop).result()

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        assert sampling.temperature == 0, "greedy only"
        chat = as_chat(self.renderer.messages(ids))
        asked = asyncio.run_coroutine_threadsafe(self._post(chat, sampling.max_tokens), self._loop)
        choice = (await asyncio.wrap_future(asked))["choices"][0]
        text = self.renderer.id_of(choice["message"]["content"] or "")
        if choice["finish_reason"] == "length":
            return Completion((text,), (0.0,), "length")
        return Completion((text, *sampling.stop), (0.0, 0.0), "stop")

    def stop(self) -> None:
        """End the client and its thread."""
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _post(self, chat: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        body = {
            "model": self._model,
            "messages": chat,
            "temperature": 0.0,
            "max_tokens": max_tokens,
        }
        response = await self._client.post("/v1/chat/completions", json=body)
        if response.status_code != 200:
            raise RuntimeError(f"the server answered {response.status_code}: {response.text[:500]}")
        return json.loads(response.text)


def check_prompt(engine: ServedEngine, renderer: Renderer) -> None:
    """First answer of the server; raises AssertionError if it lays conversations out differently."""
    messages = [
        Message("system", "Answer briefly."),
        Message("user", "Count."),
        Message("assistant", "One."),
        Message("user", "On."),
    ]
    ours = len(renderer.prompt_ids(messages))
    theirs = engine.ask(as_chat(messages))["usage"]["prompt_tokens"]
    assert theirs == ours, f"the server makes {theirs} tokens of a prompt of {ours}"
