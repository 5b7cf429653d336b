"""The game `coin` on a small scale: a model that can learn it in seconds, and a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from command import Command, Done, environment_of_child
from tiny import CHATML, SPECIAL, tiny_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["Command", "Done", "environment_of_child", "save_model", "write_recipe"]

TEXT = """You play a text game. Answer with one action.
Your task is to search the environment and find the coin.  Once you find the coin, take it.
You are in the kitchen. In one part of the room you see a stove. There is also an oven. You also see a fridge
that is closed. In another part of the room you see a counter, that has nothing on it. In one part of the room
you see a kitchen cupboard that is closed. There is also a cutlery drawer that is closed. You also see a trash
can that is closed. In another part of the room you see a dishwasher that is closed. In one part of the room
you see a dining chair, that has nothing on it. There is also a coin. To the North you see the pantry. To the
East you see the pantry. To the South you see the kitchen. To the West you see the kitchen. You are in the
pantry. In one part of the room you see a folding chair, that has nothing on it. There is also a shelf, that
has nothing on it. You also see a coin. You take the coin. move north move east move south move west take coin
Unknown action: I'm not sure what you mean. dining table"""

RECIPE: Mapping[str, Any] = {
    "name": "coin",
    "model": {"dtype": "float32"},
    "environment": {
        "name": "textworld-express",
        # Two rooms: the expert's way is the only short one, so its trajectories never change.
        "options": {"game": "coin", "params": "numLocations=2,includeDoors=0", "max_turns": 4},
        "workers": 1,
    },
    "tasks": {"train_per_kind": 48, "dev_per_kind": 16, "test_per_kind": 32},
    "rollout": {"slots": 16, "max_action_tokens": 8},
    "method": {
        "iterations": 1,
        "sft": {"epochs": 6, "learning_rate": 2e-3, "batch_size": 12, "schedule": "constant"},
        "dpo": {"epochs": 2, "learning_rate": 3e-4, "batch_size": 4, "sft_weight": 0.1},
    },
}


def save_model(folder: Path, text: str = TEXT, **changes: Any) -> Path:
    """Write an untrained Llama of about 300,000 parameters; its tokenizer knows the words of `text`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines() * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    size = {"hidden_size": 96, "intermediate_size": 192, "initializer_range": 0.05, **changes}
    tiny_model(len(fast), **size).save_pretrained(folder)
    return folder


def write_recipe(path: Path, model: Path | str, run_directory: Path, **sections: Mapping[str, Any]) -> Path:
    """`RECIPE` with `sections` laid over it, as a file; those it does not know are the method's."""
    recipe: dict[str, Any] = deepcopy(dict(RECIPE))
    recipe["run_directory"] = str(run_directory)
    recipe["model"]["path"] = str(model)
    for name, values in sections.items():
        holder = recipe["method"] if name in ("sft", "explore", "contrast", "dpo", "guard") else recipe
        holder[name] = {**holder.get(name, {}), **values}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
