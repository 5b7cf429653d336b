"""The server of `completion_server` with a real model in this process."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from completion_server import CompletionServer, main

from eto.engines.in_process import InProcessEngine
from eto.protocols import Completion, EngineFault, Sampling
from eto.tokens.prefix_tree import build_tree
from eto.training.learner import load_learner


class TokenServer(CompletionServer):
    """Acts with the engine in this process, in fp32."""

    def load(self, path: Path) -> None:
        if hasattr(self, "learner") and os.environ.get("TOY_DEAF"):
            return
        self.learner = load_learner(path, dtype="float32")
        self.engine = InProcessEngine(self.learner.model, max_context=self.context)

    def written(self, ids: list[int], sampling: Sampling) -> Completion | EngineFault:
        return asyncio.run(self.engine.generate(ids, sampling))

    def scores(self, ids: list[int]) -> list[Any]:
        [[scores]] = self.learner.score([build_tree([(ids, [-1] + [0] * (len(ids) - 1))])])
        pairs = zip(ids[1:], scores, strict=True)
        return [None, *({str(token): {"logprob": float(score), "rank": 1}} for token, score in pairs)]


if __name__ == "__main__":
    main(*sys.argv[1:], kind=TokenServer)
