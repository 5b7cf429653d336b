"""A tiny language model with a real tokenizer, made in a second, and chat templates of many styles."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from eto.types import Message, StopReason, Task, Trajectory, Turn

TEXT = """You are in the kitchen. You see a cup, a door to the hallway and a red apple on the table.
go north go south open the door take the apple put the cup in the sink look around focus on the plant
Thought: I should find the water first. Action: pick up the pot and move it to the garden.
The door is now open. You move to the garden. Your task is to count to the number and then stop.
Nothing happens. Unknown action. The thermometer measures a temperature of 10 degrees. wait read book
user assistant system higher lower the guess is too low, the guess is too high, well done! 0 1 2 3 4 5 6"""

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<bos>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>"),
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def _base(prefix_space: bool, special: tuple[str, ...]) -> str:
    """A BPE tokenizer over bytes; with `prefix_space` words carry their space in front, Llama-2 style."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines() * 2, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer.to_str()


def tiny_tokenizer(
    template: str | None = CHATML,
    eos: str | None = "<|im_end|>",
    bos: str | None = None,
    prefix_space: bool = False,
    special: tuple[str, ...] = (),
) -> PreTrainedTokenizerFast:
    """A tokenizer of about 430 tokens that knows the special tokens of several families."""
    named = {name: token for name, token in (("eos_token", eos), ("bos_token", bos)) if token}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_base(prefix_space, (*SPECIAL, *special))),
        pad_token="<|endoftext|>",
        **named,
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_model(vocabulary: int, kind: type = LlamaForCausalLM, config: type = LlamaConfig, **changes: Any):
    """Random fp32 weights, large enough that predictions are far from uniform."""
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **changes,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(config(**settings))


def save_tiny(folder: Path, **changes: Any) -> Path:
    """Write tokenizer and model to `folder`, for `load_learner`."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_model(len(tokenizer), **changes).save_pretrained(folder)
    return folder


def task(number: int = 0) -> Task:
    return Task(f"tiny/{number}", "tiny", "tiny", "train")


def trajectory(*turns: tuple[str, str], number: int = 0, prompt: str = "Begin.", **fields: Any) -> Trajectory:
    """A trajectory of (action, observation) turns; expert and solved unless `fields` say otherwise."""
    return Trajectory(
        **{
            "task": task(number),
            "messages": (Message("system", "You see a cup."), Message("user", prompt)),
            "turns": tuple(Turn(action, observation) for action, observation in turns),
            "reward": 1.0,
            "success": True,
            "stop": StopReason.TERMINATED,
            "source": "expert",
            **fields,
        }
    )
