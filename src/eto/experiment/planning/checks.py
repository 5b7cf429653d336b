"""What can be checked of a run without its hardware; each problem with its place and remedy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eto.data.texts import counted
from eto.engines.chat import UNTRAINED
from eto.errors import EtoError
from eto.experiment.loading import check_optimisers
from eto.experiment.needs import advice, unmet, unmet_text
from eto.experiment.planning.hardware import Hardware
from eto.experiment.planning.work import Lengths
from eto.experiment.recipe import Recipe
from eto.protocols import Need
from eto.settings import DistributedSettings, RaySettings, VllmSettings
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.protocols import TaskSuite


@dataclass(frozen=True, slots=True)
class Problem:
    """What stands in the way of a run."""

    problem: str
    where: str
    hint: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}\n  hint: {self.hint}"


@contextmanager
def noted(problems: list[Problem]) -> Iterator[None]:
    """A block whose errors for the user become problems."""
    try:
        yield
    except EtoError as error:
        problems.append(Problem(error.problem, error.where, error.hint))


def check_recipe(recipe: Recipe, model: Any, problems: list[Problem]) -> int:
    """Context and optimisers; returns the tokens that a conversation may have."""
    from eto.models.architecture import chosen_context, context_limit
    from eto.rollout.rollouts import check_action_room

    context = context_limit(model.config) or recipe.model.max_context or 0
    with noted(problems):
        context = chosen_context(model.config, recipe.model.max_context)
    with noted(problems):
        check_action_room(recipe.rollout.max_action_tokens, context)
    with noted(problems):
        check_optimisers(recipe)
    return context


def check_lengths(
    recipe: Recipe,
    suite: TaskSuite,
    experts: Sequence[Trajectory],
    lengths: Lengths,
    context: int,
    problems: list[Problem],
) -> None:
    """The experts' lengths against the context and the actions' limit, and what the method needs of them."""
    if not experts:
        if need := unmet(recipe.method, Need.EXPERTS):
            text = f"{unmet_text(recipe.method.name, need)}, and none of the sampled tasks has one"
            problems.append(Problem(text, f"environment {suite.name}", advice(need, recipe.method.name)))
        return
    if lengths.longest > context:
        problems.append(
            Problem(
                f"an expert's trajectory has {lengths.longest} tokens; training cuts it to {context}",
                "model.max_context",
                "raise it where the model allows, or shorten observations in environment.options",
            )
        )
    if lengths.action > recipe.rollout.max_action_tokens:
        problems.append(
            Problem(
                f"the experts' actions have {lengths.action:.0f} tokens on average, more than an action may",
                "rollout.max_action_tokens",
                "raise it",
            )
        )


def check_room(
    peak: int, room: int, hardware: Hardware, fits_on: int | None, problems: list[Problem]
) -> None:
    """The fullest device against what it has."""
    if peak <= room:
        return
    if fits_on is not None and fits_on > 1:
        hint = f"sharded over {fits_on} of these devices it fits; or train adapters (model.lora)"
    else:
        hint = (
            "lower rollout.slots or micro_batch_tokens, train adapters (model.lora), or take a larger device"
        )
    text = f"{peak / 1e9:.1f} GB needed, {room / 1e9:.1f} of {hardware.memory / 1e9:.0f} GB can be used"
    problems.append(Problem(text, f"memory of {hardware.name}", hint))


def check_processes(train: DistributedSettings, hardware: Hardware, problems: list[Problem]) -> None:
    """That each process that trains has a GPU. `train`: with the number that is launched."""
    asked = train.processes
    if not hardware.is_cpu and asked > hardware.count:
        where = train.accelerate_config or "train.processes"
        hint = "lower it: each process takes a GPU"
        problems.append(Problem(f"{asked} processes on {counted(hardware.count, 'GPU')}", where, hint))


def check_engine(recipe: Recipe, hardware: Hardware, problems: list[Problem]) -> None:
    """That the engine takes weights, its package or the servers' command is there, and as many GPUs as it
    asks for."""
    if recipe.rollout.engine == "chat":
        hint = "let it play with `eto explore` or `eto evaluate`; take another engine here"
        problems.append(Problem(UNTRAINED, "rollout.engine chat", hint))
    elif recipe.rollout.engine == "ray":
        from eto.engines.ray.cluster import check_gpus, check_package

        ray = recipe.rollout.ray or RaySettings()
        with noted(problems):
            check_package()
        if ray.address is None:  # of a cluster elsewhere nothing is known here
            with noted(problems):
                check_gpus(ray, 0 if hardware.is_cpu else hardware.count)
    if recipe.rollout.engine != "vllm":
        return
    vllm = recipe.rollout.vllm or VllmSettings()
    if vllm.command is not None and shutil.which(vllm.command[0]) is None:
        hint = "correct it, or leave it out to have vLLM installed"
        problems.append(Problem(f"{vllm.command[0]} is no program", "rollout.vllm.command", hint))
    asked = vllm.replicas * vllm.devices_each
    if not hardware.is_cpu and asked > hardware.count:
        servers = f"{counted(vllm.replicas, 'server')} with {counted(vllm.devices_each, 'GPU')} each"
        text = f"{servers}, on {hardware.count}"
        hint = "lower rollout.vllm.replicas or rollout.vllm.devices_each"
        problems.append(Problem(text, "rollout.vllm.replicas", hint))


def check_disk(recipe: Recipe, needed: int, problems: list[Problem]) -> None:
    """Room for models and training states."""
    from eto.models.disk_room import check_room as check_disk_room

    with noted(problems):
        check_disk_room(recipe.directory, needed)
