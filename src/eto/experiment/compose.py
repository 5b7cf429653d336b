"""From a recipe to the objects it names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from eto.environments.hosting.boundary import listed_tasks
from eto.errors import InputError
from eto.experiment.recipe import Recipe
from eto.settings import Settings
from eto.types import Task, Trajectory

if TYPE_CHECKING:
    from eto.protocols import TaskSuite
    from eto.training.learner import Learner

S = TypeVar("S", bound=Settings)


def suite_of(recipe: Recipe) -> TaskSuite:
    from eto.environments import load_suite

    return load_suite(recipe.environment.name, **recipe.environment.options)


def tasks_of(recipe: Recipe, suite: TaskSuite, split: str) -> list[Task]:
    """The recipe's tasks of a split: so many of each type.

    Training tasks are drawn by the recipe's seed; dev and test tasks are spread evenly
    over the official split and the same for every seed, so that seeds can be compared.
    """
    if split not in suite.splits:
        raise InputError(
            f"unknown split {split!r}", where="--split", hint=f"use one of {', '.join(suite.splits)}"
        )
    count = getattr(recipe.tasks, f"{split}_per_kind")
    kinds: dict[str, list[Task]] = {}
    listed = listed_tasks(suite, split)
    if not listed and count != 0:
        hint = "take another split, or other environment.options"
        raise InputError(f"the split {split} has no tasks", where=f"environment {suite.name}", hint=hint)
    for task in listed:
        kinds.setdefault(task.kind, []).append(task)
    chosen: list[Task] = []
    for kind, tasks in kinds.items():
        if count is None or count >= len(tasks):
            chosen += tasks
        elif split == "train":
            drawn = set(random.Random(f"{recipe.seed}/{kind}").sample(range(len(tasks)), count))
            chosen += [task for number, task in enumerate(tasks) if number in drawn]
        else:
            chosen += [tasks[number * len(tasks) // count] for number in range(count)]
    return chosen


def expert_tasks(recipe: Recipe, tasks: Sequence[Task]) -> list[Task]:
    """Those of the training `tasks` whose experts are used: all, or so many of each type, drawn by the
    recipe's seed."""
    count = recipe.tasks.experts_per_kind
    if count is None:
        return list(tasks)
    kinds: dict[str, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(task.kind, []).append(task)
    chosen: set[str] = set()
    for kind, group in kinds.items():
        drawn = random.Random(f"{recipe.seed}/experts/{kind}").sample(group, min(count, len(group)))
        chosen |= {task.id for task in drawn}
    return [task for task in tasks if task.id in chosen]


def cloned_part(recipe: Recipe, experts: Sequence[Trajectory]) -> list[Trajectory]:
    """The expert trajectories to clone: all but the share kept for exploring unseen tasks."""
    kinds: dict[str, list[Trajectory]] = {}
    for trajectory in experts:
        kinds.setdefault(trajectory.task.kind, []).append(trajectory)
    cloned: list[Trajectory] = []
    for kind, group in kinds.items():
        count = round(len(group) * (1 - recipe.tasks.explore_unseen))
        kept = set(random.Random(f"{recipe.seed}/cloned/{kind}").sample(range(len(group)), count))
        cloned += [trajectory for number, trajectory in enumerate(group) if number in kept]
    return cloned


def policy_of(recipe: Recipe, model: str | None = None) -> Learner:
    from eto.rollout.rollouts import check_action_room
    from eto.training.learner import load_learner

    lora = recipe.model.lora
    learner = load_learner(
        recipe.model.path if model is None else model,
        dtype=recipe.model.dtype,
        lora=lora.model_dump() if lora else None,
        max_context=recipe.model.max_context,
        chat_template=recipe.model.chat_template,
        chat_template_kwargs=recipe.model.chat_template_kwargs,
        thoughts=recipe.model.thoughts,
        date=recipe.model.date,
        fast_paths=recipe.model.fast_paths,
        distribution=recipe.train,
    )
    check_action_room(recipe.rollout.max_action_tokens, learner.max_context)
    return learner


def section(recipe: Recipe, settings_type: type[S]) -> S:
    """The settings of class `kind` among those of the recipe's method, which `check_effect` has seen to."""
    values = (getattr(recipe.method, name) for name in type(recipe.method).model_fields)
    return next((value for value in values if isinstance(value, settings_type)), None) or settings_type()


def training_arguments(recipe: Recipe) -> dict[str, Any]:
    """What training takes from the recipe besides its settings."""
    return {
        "seed": recipe.seed,
        "checkpoint_seconds": float(recipe.checkpoint_seconds),
        "activation_checkpointing": recipe.model.activation_checkpointing,
    }
