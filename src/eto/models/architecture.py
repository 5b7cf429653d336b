"""Which models are supported, and how far their positions reach.

Conversations share a row in the engine and branches do in training, so attention must be the only
link between tokens, and it must be the attention that is computed here. What the configuration
tells is refused by rule, with the reason; whatever else an architecture does otherwise shows in
`eto.models.probe`, which compares the two computations on a few tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eto.errors import InputError
from eto.models.private_interfaces import attention_can_be_exchanged, is_recurrent

HINT = "use a model of the Llama, Mistral, Qwen2, Qwen3, Gemma 3 or a similar family; see docs/models.md"
DEFAULT_CONTEXT = 4096
"""Longest conversation of a model whose configuration states none."""


def check_architecture(model: Any) -> None:
    """Raises `InputError` unless attention alone, and no more than ours computes, links tokens."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if layers or is_recurrent(model):
        what = f"layers other than attention ({', '.join(sorted(layers)) or 'recurrent'})"
    elif getattr(model.config, "is_encoder_decoder", False):
        what = "an encoder beside the decoder"
    elif not attention_can_be_exchanged(model):
        what = "attention that cannot be exchanged"
    elif getattr(config, "attn_logit_softcapping", None):
        what = "soft-capped attention"
    elif any(name.endswith("sinks") for name, _ in model.named_parameters()):
        what = "attention sinks"
    else:
        return
    raise InputError(
        f"{type(model).__name__} has {what}, which is not supported", where="model.path", hint=HINT
    )


def context_limit(config: Any) -> int | None:
    """Most tokens of a conversation that a model's positions allow; None where its configuration has no
    bound (relative positions without one).

    `longrope` exchanges the frequencies of all positions once a conversation grows beyond its first
    length, those of tokens already read included. Up to that length they are fixed.
    """
    text = config.get_text_config()
    limits = [getattr(text, "max_position_embeddings", None)]
    for rope in _ropes(text):
        if rope.get("rope_type") == "longrope":
            first = rope.get("original_max_position_embeddings")
            limits.append(first or getattr(text, "original_max_position_embeddings", None))
    stated = [limit for limit in limits if limit is not None]
    for limit in stated:
        if not isinstance(limit, int) or limit < 1:
            raise InputError(
                f"{limit!r} is not a context length",
                where="config.json: max_position_embeddings",
                hint="correct it there",
            )
    return min(stated, default=None)


def chosen_context(config: Any, max_context: int | None) -> int:
    """`max_context`, or the model's own limit. Raises `InputError` where that is exceeded."""
    limit = context_limit(config)
    if max_context is not None and max_context < 1:
        raise InputError(
            f"{max_context} is not a length", where="model.max_context", hint="give tokens from 1 on"
        )
    if max_context and limit and max_context > limit:
        whole = getattr(config.get_text_config(), "max_position_embeddings", None) or limit
        why = ": beyond it, longrope changes the positions of tokens already read" if whole > limit else ""
        raise InputError(
            f"max_context {max_context} is more than the model's {limit}{why}",
            where="model.max_context",
            hint=f"give {limit} or less",
        )
    return max_context or limit or DEFAULT_CONTEXT


def fix_positions(model: Any) -> None:
    """Keep the rotary frequencies of `model` as those of conversations within `context_limit`.

    `transformers` otherwise chooses them again in each pass, from the largest position in it, which here
    is another conversation's.
    """
    for module in model.modules():
        rope_type = getattr(module, "rope_type", None)
        kinds = rope_type.values() if isinstance(rope_type, Mapping) else [rope_type]
        if not any(isinstance(each, str) and ("dynamic" in each or each == "longrope") for each in kinds):
            continue
        for name, first in list(module.named_buffers(recurse=False)):
            if "original_inv_freq" in name:
                setattr(module, name.replace("original_", ""), first.clone())
        module.rope_type = dict.fromkeys(rope_type, "fixed") if isinstance(rope_type, Mapping) else "fixed"


def checked_vocabulary(model: Any, tokenizer: Any) -> int:
    """The number of the model's embeddings. Raises `InputError` for a tokenizer with tokens beyond them.

    More embeddings than tokens are usual: sizes are padded.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokens > rows:
        raise InputError(
            f"the tokenizer has {tokens} tokens, the model {rows} embeddings",
            where="model.path",
            hint="take the tokenizer that belongs to the model, or resize the model's embeddings and train "
            "them before",
        )
    return rows


def base_of(model: Any) -> Any:
    """The `transformers` model inside adapters, or `model` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def sharing_copy(model: Any) -> Any:
    """A copy of `model` on the same weights: its modules and configuration may be changed, and what
    gradients its weights get are the model's."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def switch_recomputing(model: Any, what: str) -> Callable[..., None]:
    """transformers' switch for recomputing activations, which newer versions call by another name."""
    newer, older = f"activation_checkpointing_{what}", f"gradient_checkpointing_{what}"
    return getattr(model, newer, None) or getattr(model, older)


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary positions: one for all layers, or one for each type of layer."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [each for each in given.values() if isinstance(each, Mapping)]
    yield from nested or [given]
