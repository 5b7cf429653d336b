"""Which models can be run and trained here."""

from __future__ import annotations

from typing import Any

from eto.errors import InputError


def check_architecture(model: Any) -> None:
    """Raises `InputError` unless attention alone, and no more than ours computes, links tokens.

    Conversations share a row here and branches do in training. A recurrent layer would
    carry one into the other, and soft-capped scores or attention sinks would be left out.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if layers or model._is_stateful:
        what = f"layers other than attention ({', '.join(sorted(layers)) or 'recurrent'})"
    elif not model._supports_attention_backend:
        what = "attention that cannot be exchanged"
    elif getattr(config, "attn_logit_softcapping", None):
        what = "soft-capped attention"
    elif any(name.endswith("sinks") for name, _ in model.named_parameters()):
        what = "attention sinks"
    else:
        return
    raise InputError(
        f"{type(model).__name__} has {what}, which is not supported",
        where="model.path",
        mend="use a model of the Llama, Mistral, Qwen2, Qwen3, Gemma 3 or a similar family",
    )


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
            mend="take the tokenizer that belongs to the model, or resize the model's embeddings and train "
            "them before",
        )
    return rows
