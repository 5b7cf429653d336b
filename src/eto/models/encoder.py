"""Turns as points by a language model: hidden states of its last layer, averaged over the tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eto.models.loading import find_model, load_model, load_tokenizer
from eto.types import Trajectory, Turn

MOST_TOKENS = 256
"""Of a turn's text that are read; a longer one is cut at the end."""


class TurnEncoder:
    """Embeds turns. Each text is passed by itself, once: a turn's point depends on that turn alone."""

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        """name: `embedded`, a directory or a Hub id. Raises `InputError` where it cannot be loaded."""
        source = find_model(name)
        self._tokenizer = load_tokenizer(source)
        self._model: Any = load_model(source, device).base_model.eval()
        self._known: dict[str, NDArray[np.float64]] = {}

    def __call__(self, trajectory: Trajectory) -> NDArray[np.float64]:
        """`[turns, hidden size]`, each of length 1."""
        rows = [self._point(_text(turn)) for turn in trajectory.turns]
        return np.array(rows).reshape(len(rows), -1)

    def _point(self, text: str) -> NDArray[np.float64]:
        if text not in self._known:
            ids = self._tokenizer(
                text, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
            ).input_ids
            with torch.inference_mode():
                states = self._model(ids.to(self._model.device), use_cache=False).last_hidden_state[0]
            mean = states.double().mean(0).cpu().numpy()
            self._known[text] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return self._known[text]


def _text(turn: Turn) -> str:
    calls = (f"{call.name} {call.arguments}" for call in turn.tool_calls)
    parts = (turn.reasoning, turn.action, *calls, turn.observation)
    return "\n".join(part for part in parts if part) or "\n"
