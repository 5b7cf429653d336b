"""A model tried on two short conversations before it acts: see `eto.models.probe`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eto.engines.in_process.conversation import Conversation
from eto.engines.in_process.decoder import Decoder
from eto.models.architecture import check_architecture, sharing_copy
from eto.models.probe import (
    FOREIGN,
    SPLIT,
    TOKENS,
    compare,
    first_trial,
    narrowed,
    own_logits,
    passed,
    trial_ids,
    unsupported,
)

GUESSED = 18
"""Tokens before those that are passed as guesses."""
PLACES = [SPLIT - 1, SPLIT, *range(GUESSED - 1, TOKENS)]
"""Tokens after which the engine is asked for logits."""


def check_acting(model: Any) -> None:
    """Raises `InputError` where the engine's logits for `model` are not those of its own forward pass."""
    check_architecture(model)
    if not first_trial(model, "acting"):
        return
    one, other = trial_ids(model, 0), trial_ids(model, 1)
    sequences = [one, one[:SPLIT] + other[SPLIT:]]
    expected = [rows[PLACES] for rows in own_logits(model, sequences)]
    try:
        ours = _engine_logits(model, sequences)
    except FOREIGN as error:
        raise unsupported(model, "acting", repr(error)) from error
    compare(model, "acting", ours, expected)
    passed(model, "acting")


def _engine_logits(model: Any, sequences: Sequence[list[int]]) -> list[Tensor]:
    """The logits at `PLACES`: a prompt, one token, and several with guesses after them."""
    decoder = Decoder(narrowed(sharing_copy(model)), fast_paths=False)
    batch = [Conversation(ids[:SPLIT]) for ids in sequences]
    try:
        rows = [[*_logits(decoder, batch[:1]), *_logits(decoder, batch[1:])]]
        for end, guessed in ((SPLIT + 1, 0), (GUESSED, TOKENS - GUESSED)):
            for conversation, ids in zip(batch, sequences, strict=True):
                conversation.ids, conversation.draft = ids[:end], ids[end : end + guessed]
            rows.append(_logits(decoder, batch))
    finally:
        decoder.close()
    return [torch.cat(steps) for steps in zip(*rows, strict=True)]


def _logits(decoder: Decoder, batch: list[Conversation]) -> list[Tensor]:
    return [predictions.logits for predictions in decoder.step(batch)]
