"""A small HTTP server that answers as vLLM does; or badly, if asked to. As a program: in place of vLLM.

Standard library and numbers alone, so that it starts in a moment; `token_server` puts a real model behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

from eto.protocols import Completion, EngineFault, Sampling

Twist = Callable[[dict[str, Any]], dict[str, Any]]


class CompletionServer:
    """Weights behind `/v1/completions`, and the calls by which vLLM takes others."""

    def __init__(
        self, path: Path, *, model: str = "tiny", context: int = 128, key: str | None = None, port: int = 0
    ) -> None:
        self.model, self.context, self.key = model, context, key
        self.load(path)
        self.fault: Callable[[BaseHTTPRequestHandler, dict[str, Any]], bool] | None = None
        """Asked first at each completion; True where it has answered, in its own way."""
        self.twist: Twist = lambda answer: answer
        """What becomes of a right answer."""
        self.development, self.deaf = True, False
        """Whether it takes weights; whether it then goes on with the old ones."""
        self.version, self.paused = "default", False
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        """(path, body, headers) of what came."""
        self.connections = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server.connections += 1

            def do_GET(self) -> None:
                server.get(self)

            def do_POST(self) -> None:
                server.post(self)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # of a client that went away
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    # -- requests ---------------------------------------------------------------------

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v1/models":
            card = {"id": self.model, "object": "model", "max_model_len": self.context}
            send(handler, 200, {"object": "list", "data": [card]})
        else:
            send(handler, 200 if handler.path == "/health" else 404, {})

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])) or b"{}")
        self.asked.append((handler.path, body, dict(handler.headers)))
        if self.key and handler.headers.get("Authorization") != f"Bearer {self.key}":
            send(handler, 401, {"error": {"message": f"wrong key {handler.headers.get('Authorization')}"}})
        elif handler.path == "/v1/completions":
            if self.paused:
                send(handler, 503, {"error": {"message": "generation is paused"}})
            elif self.fault is None or not self.fault(handler, body):
                send(handler, *self.complete(body))
        elif not self.development:
            send(handler, 404, {"detail": "Not Found"})
        else:
            send(handler, *self.control(handler.path, body))

    def control(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/pause?mode=wait":
            self.paused = True
            return 200, {"status": "paused"}
        if path == "/resume":
            self.paused = False
            return 200, {"status": "resumed"}
        if path == "/update_weight_version":
            self.version = body["new_version"]
            return 200, {"success": True}
        assert path == "/collective_rpc" and body["method"] == "reload_weights" and self.paused
        if not self.deaf:
            with self._lock:
                self.load(Path(body["kwargs"]["weights_path"]))
        return 200, {"results": [None]}

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        ids = body["prompt"]
        if body["model"] != self.model:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if len(ids) >= self.context:
            return 400, {"error": {"message": f"maximum context length is {self.context} tokens"}}
        stop = tuple(body["stop_token_ids"])
        sampling = Sampling(body["max_tokens"], body["temperature"], body["seed"], stop)
        with self._lock:
            written = self.written(ids, sampling)
            scores = self.scores(ids) if "prompt_logprobs" in body else None
        if isinstance(written, EngineFault):
            return 500, {"error": {"message": written.problem}}
        return 200, self.twist(self.answer(ids, written, scores))

    # -- the model: numbers made of the weights and the ids ---------------------------

    def load(self, path: Path) -> None:
        """Take the weights in the directory `path`."""
        self.digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()

    def written(self, ids: list[int], sampling: Sampling) -> Completion | EngineFault:
        """A continuation."""
        new: list[int] = []
        while len(new) < sampling.max_tokens and (not new or new[-1] not in sampling.stop):
            time.sleep(0.002)
            new.append(self._number([*ids, *new]) % 100)
        finish = "stop" if new[-1] in sampling.stop else "length"
        return Completion(tuple(new), tuple(-1.0 - token / 100 for token in new), finish)

    def scores(self, ids: list[int]) -> list[Any]:
        """`prompt_logprobs` of the prompt `ids`."""
        return [None, *({str(token): {"logprob": -1.0 - token / 100}} for token in ids[1:])]

    def _number(self, ids: list[int]) -> int:
        return int(hashlib.sha256(f"{self.digest}{ids}".encode()).hexdigest()[:8], 16)

    def answer(self, ids: list[int], written: Completion, scores: list[Any] | None) -> dict[str, Any]:
        choice = {
            "index": 0,
            "text": "",
            "finish_reason": written.finish,
            "stop_reason": written.ids[-1] if written.finish == "stop" else None,
            "token_ids": list(written.ids),
            "prompt_token_ids": ids,
            "logprobs": {"token_logprobs": list(written.log_probs)},
            "prompt_logprobs": scores,
            "weight_versions": [{"version": self.version, "start": 0, "end": len(written.ids)}],
        }
        return {"object": "text_completion", "model": self.model, "choices": [choice]}


def send(handler: BaseHTTPRequestHandler, status: int, content: Any) -> None:
    """A whole answer."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def closes(handler: BaseHTTPRequestHandler, _body: dict[str, Any]) -> bool:
    """No answer: the connection ends."""
    handler.close_connection = True
    return True


def half(handler: BaseHTTPRequestHandler, _body: dict[str, Any]) -> bool:
    """The beginning of an answer, then the connection ends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"index": 0, ')
    handler.close_connection = True
    return True


def stalls(handler: BaseHTTPRequestHandler, _body: dict[str, Any]) -> bool:
    """Nothing for a while, then the connection ends."""
    time.sleep(3)
    handler.close_connection = True
    return True


@contextmanager
def serving(server: CompletionServer) -> Iterator[CompletionServer]:
    """It listens within the block."""
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def main(directory: str, *options: str, kind: type[CompletionServer] = CompletionServer) -> None:
    """Serve until killed, with a process of its own below."""
    if os.environ.get("TOY_BROKEN"):
        sys.exit("the toy is broken")
    given = dict(pairwise(options))
    model, context = given["--served-model-name"], int(given["--max-model-len"])
    port = int(given["--port"])
    subprocess.Popen(["sleep", "1000"])
    kind(Path(directory), model=model, context=context, port=port).http.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
