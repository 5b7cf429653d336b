"""Which fields of a recipe each command reads: a value given for another one is refused, not ignored.

A recipe file is for all commands, and its other sections are left alone. What is given for one command
must have an effect on it: overrides, and values of the section that has the command's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eto.errors import InputError
from eto.recipe import Recipe
from eto.recipe_yaml import read_yaml

_TURNS = tuple(f"contrast.{name}" for name in ("turns", "window", "discount", "discount_kind", "repeats"))
_BOUNDS = ("guard.max_margin", "guard.max_chosen_drop", "guard.max_drift")
_OF_TRAINING = ("model.lora", "model.activation_checkpointing")

READ: Mapping[str, tuple[str, ...]] = {
    "run": ("",),
    "expert": ("seed", "environment", "tasks"),
    "replay": ("environment", "explore.slots"),
    "sft": ("seed", "model", "sft"),
    "explore": ("seed", "model", "environment", "tasks", "explore"),
    "pairs": ("seed", "contrast"),
    "dpo": ("seed", "model", "dpo", *_TURNS, *_BOUNDS),
    "evaluate": ("seed", "model", "environment", "tasks", "evaluation", "explore.max_action_tokens"),
    "show-mask": ("model",),
}
"""Fields and sections that a command reads, but for those of `NOT_READ`."""

NOT_READ: Mapping[str, tuple[str, ...]] = {
    "expert": ("environment.episode_seconds", "tasks.explore_unseen"),
    "explore": ("explore.iterations", "tasks.explore_unseen", *_OF_TRAINING),
    "pairs": _TURNS,
    "evaluate": ("tasks.explore_unseen", *_OF_TRAINING),
    "show-mask": ("model.dtype", *_OF_TRAINING),
}

INSTEAD = {
    ("evaluate", "explore.temperature"): "evaluation.temperature",
    ("evaluate", "explore.slots"): "evaluation.slots",
    ("explore", "evaluation.temperature"): "explore.temperature",
    ("explore", "evaluation.slots"): "explore.slots",
}


def check_effect(
    command: str, recipe: Recipe, overrides: Sequence[str], *, split: str = "", model: str | None = None
) -> None:
    """Raises `InputError` for the first override that `eto COMMAND` would ignore.

    `split`: the one it plays, where it plays one. `model`: what `--model` names.
    """
    for override in overrides:
        for path in _fields(override):
            reason = ""
            if model is not None and path == "model.path":
                reason, mend = "has no effect beside --model", "give one of the two"
            elif not _reads(command, path, recipe, split):
                reason, mend = f"has no effect on `eto {command}`", _mend(command, path, recipe)
            if reason:
                raise InputError(f"{path} {reason}", where=f"override {override}", mend=mend)


def _reads(command: str, path: str, recipe: Recipe, split: str) -> bool:
    if command == "run":
        return recipe.explore.iterations > 0 or not _is_of(path, _OF_ROUNDS)
    if path.startswith("tasks.") and path.endswith("_per_kind") and path != f"tasks.{split}_per_kind":
        return False
    if command == "dpo" and path == "model.lora.dropout" and not recipe.dpo.dropout:
        return False
    return _is_of(path, READ[command]) and not _is_of(path, NOT_READ.get(command, ()))


_OF_ROUNDS = ("contrast", "dpo", "guard", "explore.samples", "explore.temperature", "explore.slots")
"""What a run without rounds does not read."""


def _mend(command: str, path: str, recipe: Recipe) -> str:
    if instead := INSTEAD.get((command, path)):
        return f"use {instead}"
    if command == "run":
        return "leave it out, or set explore.iterations above 0"
    if path == "model.lora.dropout":
        return "leave it out, or set dpo.dropout=true"
    others = [f"`eto {each}`" for each in READ if each != command and _reads(each, path, recipe, "")]
    return f"leave it out; it is read by {', '.join(others)}"


def _is_of(path: str, prefixes: Sequence[str]) -> bool:
    return any(not prefix or path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _fields(override: str) -> Iterator[str]:
    """The fields that an override, already known to be valid, sets."""
    dotted, _, text = override.partition("=")

    def walk(path: str, value: Any) -> Iterator[str]:
        free = path.startswith("environment.options")
        if isinstance(value, dict) and value and not free:
            for key, inner in value.items():
                yield from walk(f"{path}.{key}", inner)
        else:
            yield path

    yield from walk(dotted.strip(), read_yaml(text, override)[0])
