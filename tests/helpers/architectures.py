"""Architectures that the tests play and train, and some that are refused; `docs/models.md` lists them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 434
SETTINGS = {
    **{"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 512},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1},
    **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
    **{"attention_dropout": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "dropout": 0.0},
    **{"hidden_dropout": 0.0, "embedding_dropout": 0.0, "residual_dropout": 0.0},
}
"""Of these each configuration takes what it knows."""
ROPE = {"rope_theta": 10_000.0, "original_max_position_embeddings": 64}
WINDOWS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
}

SUPPORTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Llama": ("llama", "", {}),
    "Llama, tied": ("llama", "one matrix for embeddings and output layer", {"tie_word_embeddings": True}),
    "Llama 3.1": (
        "llama",
        "`llama3` positions",
        {
            "rope_parameters": {
                **ROPE,
                "rope_type": "llama3",
                **{"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            }
        },
    ),
    "Llama, linear": (
        "llama",
        "`linear` positions",
        {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 4.0}},
    ),
    "Llama, dynamic": (
        "llama",
        "`dynamic` positions, up to `max_position_embeddings`",
        {"rope_parameters": {**ROPE, "rope_type": "dynamic", "factor": 4.0}},
    ),
    "Llama, YaRN": (
        "llama",
        "`yarn` positions",
        {"rope_parameters": {**ROPE, "rope_type": "yarn", "factor": 8.0}},
    ),
    "Mistral": ("mistral", "sliding window", {"sliding_window": 6}),
    "Ministral 3": (
        "ministral3",
        "scores scaled by position",
        {
            "rope_parameters": {
                **ROPE,
                "rope_type": "yarn",
                "factor": 8.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "Mixtral": ("mixtral", "experts", EXPERTS),
    "Qwen2": ("qwen2", "biases", {}),
    "Qwen2, windows": ("qwen2", "windows in some layers", {"use_sliding_window": True, **WINDOWS}),
    "Qwen2-MoE": ("qwen2_moe", "experts", {**EXPERTS, "shared_expert_intermediate_size": 32}),
    "Qwen3": ("qwen3", "normed queries and keys", {"head_dim": 24}),
    "Qwen3-MoE": ("qwen3_moe", "experts", {**EXPERTS, "head_dim": 24}),
    "Gemma": ("gemma", "scaled embeddings", {"head_dim": 16}),
    "Gemma 3, text": ("gemma3_text", "windows in some layers", {"head_dim": 32, **WINDOWS}),
    "Gemma 3": ("gemma3", "text of a model that sees", {}),
    "Phi": ("phi", "parallel residuals, partly rotary", {"partial_rotary_factor": 0.5}),
    "Phi-3": ("phi3", "", {}),
    "Phi-3, longrope": (
        "phi3",
        "`longrope` positions, up to the first length",
        {
            "original_max_position_embeddings": 256,
            "rope_parameters": {
                "rope_theta": 10_000.0,
                "rope_type": "longrope",
                "short_factor": [1.0] * 8,
                "long_factor": [4.0] * 8,
            },
        },
    ),
    "GPT-2": ("gpt2", "learned positions", {}),
    "OPT": ("opt", "learned positions with an offset", {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    "Pythia, GPT-NeoX": ("gpt_neox", "parallel residuals, partly rotary", {}),
    "StarCoder": ("gpt_bigcode", "one key head for all", {"n_inner": 96}),
    "StarCoder2": ("starcoder2", "sliding window", {"sliding_window": 6}),
    "Cohere": ("cohere", "parallel residuals, scaled logits", {"logit_scale": 0.5}),
    "Cohere 2": ("cohere2", "layers without positions", {"logit_scale": 0.5, "head_dim": 16, **WINDOWS}),
    "Granite": (
        "granite",
        "scaled scores, residuals and logits",
        {"logits_scaling": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5},
    ),
    "Granite-MoE": ("granitemoe", "experts", EXPERTS),
    "OLMo": ("olmo", "norms without weights", {}),
    "OLMo 2": ("olmo2", "normed queries and keys", {}),
    "OLMo 3": ("olmo3", "windows in some layers", WINDOWS),
    "OLMoE": ("olmoe", "experts", EXPERTS),
    "SmolLM3": ("smollm3", "layers without positions", {"no_rope_layers": [1, 0]}),
    "DeepSeek-V2": (
        "deepseek_v2",
        "latent attention, experts",
        {**LATENT, **EXPERTS, "n_routed_experts": 4, "first_k_dense_replace": 1, "num_key_value_heads": 4},
    ),
    "DeepSeek-V3": (
        "deepseek_v3",
        "latent attention, experts",
        {
            **{**LATENT, **EXPERTS, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1},
            **{"topk_group": 1, "num_key_value_heads": 4},
        },
    ),
    "GLM-4": ("glm4", "norms after each block, partly rotary", {"head_dim": 16}),
    "EXAONE 4": ("exaone4", "windows in some layers", {**WINDOWS, "sliding_window_pattern": None}),
    "ERNIE 4.5": ("ernie4_5", "", {"head_dim": 16}),
    "Hunyuan": ("hunyuan_v1_dense", "normed queries and keys", {"head_dim": 16}),
    "Seed-OSS": ("seed_oss", "biases", {"head_dim": 16}),
    "nanochat": ("nanochat", "soft-capped logits", {}),
}
"""Name -> `model_type`, what it adds to plain attention, changes of the configuration."""

REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Gemma 2": ("gemma2", "soft-capped attention", {"head_dim": 16}),
    "GPT-OSS": ("gpt_oss", "attention sinks", {**EXPERTS, "head_dim": 16}),
    "Llama 4": ("llama4_text", "chunked_attention", {**EXPERTS, "head_dim": 16}),
    "Mamba": ("mamba", "linear_attention", {}),
    "LFM2": ("lfm2", "conv", {"layer_types": ["conv", "full_attention"]}),
    "Qwen3-Next": ("qwen3_next", "linear_attention", {**EXPERTS, "layer_types": ["linear_attention"] * 2}),
    "RWKV": ("rwkv", "recurrent", {"attention_hidden_size": 64}),
    "BLOOM": ("bloom", "attention that cannot be exchanged", {}),
    "MPT": ("mpt", "attention that cannot be exchanged", {"d_model": 64, "n_heads": 4, "n_layers": 2}),
    "Falcon": ("falcon", "attention that cannot be exchanged", {}),
    "GPT-J": ("gptj", "attention that cannot be exchanged", {"rotary_dim": 8}),
    "StableLM": ("stablelm", "attention that cannot be exchanged", {}),
    "Nemotron": ("nemotron", "does not compute what transformers computes", {}),
    "DiffLlama": ("diffllama", "does not compute what transformers computes", {}),
    "Doge": ("doge", "does not compute what transformers computes", {}),
    "BERT": ("bert", "does not compute what transformers computes", {}),
}
"""Name -> `model_type`, a part of the message, changes of the configuration."""


def tiny_architecture(kind: str, changes: dict[str, Any]) -> Any:
    """A model of `model_type` `kind` with random fp32 weights, norms and biases included."""
    settings = _known(AutoConfig.for_model(kind), changes)
    config = AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.1 * torch.randn_like(weight)
    return model


def _known(config: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """`SETTINGS` that the configuration has, and `changes`; small parts where it is made of several."""
    names = {*config.to_dict(), *config.attribute_map}
    known = {name: value for name, value in SETTINGS.items() if name in names} | changes
    if hasattr(config, "vision_config"):
        text = _known(config.text_config, {"head_dim": 32, **WINDOWS})
        image = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        return {"text_config": text, "vision_config": {**image, "image_size": 28, "patch_size": 14}}
    return known
