"""A model tried on a few tokens: what is computed here against `transformers`' own forward pass.

Rules over configurations cannot foresee what an architecture does with masks, positions, windows or
caches. So each model plays two short conversations before it acts (`eto.engines.in_process.probe`), and
scores two branches before it is trained (`eto.training.probe`), in fp32 and with sliding windows narrowed
to `WINDOW`. It takes as long as reading a hundred tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eto.errors import InputError
from eto.models.architecture import HINT, sharing_copy

TOKENS = 24
SPLIT = 12
"""Tokens that the two conversations, or branches, have in common."""
WINDOW = 7
"""Sliding windows during the trial, so that they end within it."""
TOLERANCE = 0.02
"""Largest difference of logits, in standard deviations of the logits. Rounding makes 1e-5 of it."""
FOREIGN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the code of an architecture raises that does not take what ours passes or leaves out."""

_PASSED: set[tuple[str, str, str]] = set()
"""What was tried, class and configuration, of models that passed in this process."""


def first_trial(model: Any, what: str) -> bool:
    """Whether no model of this class and configuration has passed yet."""
    return _trial(model, what) not in _PASSED


def passed(model: Any, what: str) -> None:
    """Remember that `model` passed."""
    _PASSED.add(_trial(model, what))


def _trial(model: Any, what: str) -> tuple[str, str, str]:
    return what, type(model).__name__, model.config.to_json_string()


def trial_ids(model: Any, seed: int) -> list[int]:
    """`TOKENS` ordinary tokens."""
    vocabulary = min(model.get_input_embeddings().weight.shape[0], 1000)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary // 4, vocabulary, (TOKENS,), generator=generator).tolist()


@torch.no_grad()
def own_logits(model: Any, sequences: Sequence[list[int]]) -> list[Tensor]:
    """`[tokens, vocabulary]` fp32 of each sequence from the model's own forward pass. Raises `InputError`
    where they are not numbers."""
    own = narrowed(sharing_copy(model)).eval()
    rows = [torch.tensor([ids], device=model.device) for ids in sequences]
    try:
        logits = [own(input_ids=ids).logits[0].float() for ids in rows]
    except FOREIGN as error:
        raise InputError(
            f"{type(model).__name__} does not read text alone ({_brief(repr(error))})",
            where="model.path",
            hint=HINT,
        ) from error
    if not all(torch.isfinite(each).all() for each in logits):
        raise InputError(
            "the model's logits are not numbers",
            where="model.path",
            hint="its weights are damaged: make or load the checkpoint again",
        )
    return logits


def narrowed(model: Any) -> Any:
    """`model`, a copy of the caller's, with every sliding window `WINDOW` tokens wide."""
    holders = [model.config, model.config.get_text_config(), *model.modules()]
    holders += [module.config for module in model.modules() if hasattr(module, "config")]
    for holder in holders:
        window = getattr(holder, "sliding_window", None)
        if isinstance(window, int) and not isinstance(window, bool) and window > WINDOW:
            holder.sliding_window = WINDOW
    return model


def compare(model: Any, what: str, actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raises `InputError` where most rows differ.

    Most, not any: in a mixture of experts rounding alone may send a token to another expert.
    """
    for ours, own in zip(actual, expected, strict=True):
        differs = (ours - own).abs().amax(-1) / own.std().clamp(min=1e-6)
        typical = float(differs.nan_to_num(nan=torch.inf).median())
        if typical > TOLERANCE:
            raise unsupported(model, what, f"logits differ by {typical:.2g} standard deviations")


def unsupported(model: Any, what: str, why: str) -> InputError:
    return InputError(
        f"{type(model).__name__}: {what} here does not compute what transformers computes ({_brief(why)})",
        where="model.path",
        hint=HINT,
    )


def _brief(text: str) -> str:
    return " ".join(text.split())[:160]
