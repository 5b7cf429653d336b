"""Which fields of a recipe each command reads: a value given for another one is refused, not ignored.

A recipe file is for all commands, and its other sections are left alone. What is given for one command
must have an effect on it: overrides, and values of the section that has the command's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from eto.engines.chat import UNTRAINED
from eto.errors import InputError
from eto.experiment.recipe import Recipe
from eto.experiment.recipe_earlier import present
from eto.experiment.recipe_yaml import dotted, read_yaml
from eto.methods import declared_stages
from eto.protocols import CLONED
from eto.settings import ContrastSettings, GuardSettings, RaySettings
from eto.settings.engines import EngineName

_TURNS = tuple(f"method.contrast.{name}" for name in ContrastSettings.of_turns)
_BOUNDS = tuple(f"method.guard.{name}" for name in GuardSettings.bounds)
_OF_TRAINING = ("model.lora", "model.activation_checkpointing")


@dataclass(frozen=True, slots=True)
class Reads:
    """Fields and sections that a command reads."""

    fields: tuple[str, ...]
    but: tuple[str, ...] = ()
    """Those among them that it does not read."""
    section: str = ""
    """The section of the method's settings that it cannot do without."""


COMMANDS: Mapping[str, Reads] = {
    "run": Reads(("",)),
    "expert": Reads(
        ("seed", "environment", "tasks"), but=("environment.episode_seconds", "tasks.explore_unseen")
    ),
    "replay": Reads(("environment", "rollout.slots", "rollout.retries")),
    "sft": Reads(("seed", "model", "train", "method.sft", "checkpoint_seconds"), section="sft"),
    "explore": Reads(
        ("seed", "model", "environment", "tasks", "rollout", "method.explore"),
        but=("tasks.explore_unseen", *_OF_TRAINING),
        section="explore",
    ),
    "pairs": Reads(("seed", "method.contrast"), but=_TURNS, section="contrast"),
    "dpo": Reads(
        ("seed", "model", "train", "method.dpo", "checkpoint_seconds", *_TURNS, *_BOUNDS), section="dpo"
    ),
    "evaluate": Reads(
        ("seed", "model", "environment", "tasks", "rollout", "evaluation"),
        but=("tasks.explore_unseen", *_OF_TRAINING),
    ),
    "show-mask": Reads(("model",), but=("model.dtype", "model.fast_paths", *_OF_TRAINING)),
}

INSTEAD = {
    ("evaluate", "method.explore.temperature"): "evaluation.temperature",
    ("explore", "evaluation.temperature"): "method.explore.temperature",
}


def check_effect(
    command: str, recipe: Recipe, overrides: Sequence[str], *, split: str = "", model: str | None = None
) -> None:
    """Raises `InputError` for the first override that `eto COMMAND` would ignore, and for a recipe whose
    method lacks what it does.

    `split`: the one it plays, where it plays one. `model`: what `--model` names.
    """
    section = COMMANDS[command].section
    if section and section not in type(recipe.method).model_fields:
        raise InputError(
            f"the method {recipe.method.name} has no settings {section!r}, which `eto {command}` reads",
            where="method.name",
            hint=f"take a recipe of a method that has `method.{section}`, or none for the defaults",
        )
    if command == "run" and recipe.rollout.engine == "chat":
        hint = "let it play with `eto explore` or `eto evaluate`; take another engine here"
        raise InputError(UNTRAINED, where="rollout.engine chat", hint=hint)
    for override in overrides:
        for path in _fields(override):
            reason = ""
            if model is not None and path == "model.path":
                reason, hint = "has no effect with --model", "give one of the two"
            elif command == "run":
                reason, hint = _unread_by_run(path, recipe)
            elif not _reads(command, path, recipe, split):
                reason, hint = f"has no effect on `eto {command}`", _hint(command, path, recipe)
            if not reason and (engine := _other_engine(path, recipe)):
                reason = f"has no effect with rollout.engine={recipe.rollout.engine}"
                hint = f"set rollout.engine={engine} too, or leave it out"
            if reason:
                raise InputError(f"{path} {reason}", where=f"override {override}", hint=hint)


def _other_engine(path: str, recipe: Recipe) -> str:
    """The engine that a field is of, where the recipe names another; a file may hold some to choose from."""
    rollout = recipe.rollout
    named = {rollout.engine, (rollout.ray or RaySettings()).engine if rollout.engine == "ray" else ""}
    others = [name for name in get_args(EngineName) if name not in named]
    return next((name for name in others if _is_of(path, (f"rollout.{name}",))), "")


def _unread_by_run(path: str, recipe: Recipe) -> tuple[str, str]:
    """Why a run of the recipe ignores a field, and what to do; "" twice where it reads it."""
    for name, change in recipe.method.without_effect().items():
        if _is_of(path, (f"method.{name}",)):
            return "has no effect on `eto run`", f"leave it out, or {change}"
    if recipe.tasks.experts_per_kind == 0 and _is_of(path, _of_experts_alone(recipe)):
        return "has no effect without experts", "leave it out, or raise tasks.experts_per_kind"
    return "", ""


def _of_experts_alone(recipe: Recipe) -> list[str]:
    """Fields and sections that only cloning of the experts reads."""
    stages = declared_stages(recipe.method)
    cloning = {name for stage in stages if stage.agent == CLONED for name in stage.settings}
    others = {name for stage in stages if stage.agent != CLONED for name in stage.settings}
    return ["tasks.explore_unseen", *(f"method.{name}" for name in sorted(cloning - others))]


def _reads(command: str, path: str, recipe: Recipe, split: str) -> bool:
    if path.startswith("tasks.") and path.endswith("_per_kind") and path != f"tasks.{split}_per_kind":
        return command == "run"
    if command == "dpo" and path == "model.lora.dropout" and not _drops(recipe):
        return False
    reads = COMMANDS[command]
    return _is_of(path, reads.fields) and not _is_of(path, reads.but)


def _drops(recipe: Recipe) -> bool:
    """Whether preference training keeps dropout."""
    return getattr(getattr(recipe.method, "dpo", None), "dropout", False)


def _hint(command: str, path: str, recipe: Recipe) -> str:
    if instead := INSTEAD.get((command, path)):
        return f"use {instead}"
    if path == "model.lora.dropout":
        return "leave it out, or set method.dpo.dropout=true"
    others = [f"`eto {each}`" for each in COMMANDS if each != command and _reads(each, path, recipe, "")]
    return f"leave it out; it is read by {', '.join(others)}"


def _is_of(path: str, prefixes: Sequence[str]) -> bool:
    return any(not prefix or path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _fields(override: str) -> Iterator[str]:
    """The fields that an override, already known to be valid, sets, by their present names."""
    path, _, text = override.partition("=")

    def walk(path: str, value: Any) -> Iterator[str]:
        free = path.startswith("environment.options")
        if isinstance(value, dict) and value and not free:
            for key, inner in value.items():
                yield from walk(f"{path}.{key}", inner)
        else:
            yield dotted(present(tuple(path.split("."))))

    yield from walk(path.strip(), read_yaml(text, override)[0])
