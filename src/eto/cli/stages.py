"""Single stages on files: each command of `eto` but `run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from eto.cli.agents import name_of
from eto.cli.compose import read_recipe
from eto.cli.kept import Kept, command_of, stopped_writing
from eto.cli.outputs import check_file, check_results, inputs_of, write_results
from eto.cli.progress import Progress
from eto.cli.terminal import say
from eto.data.formats import PairForm, read_trajectories, write_pairs, write_trajectories
from eto.data.texts import counted
from eto.engines.actor import Actor
from eto.errors import InputError
from eto.experiment.acting import Acting
from eto.experiment.compose import (
    policy_of,
    section,
    suite_of,
    tasks_of,
)
from eto.experiment.recipe import Recipe
from eto.settings import ContrastSettings, ExploreSettings
from eto.types import Phase, Trajectory

POLICY = "policy"
"""What stands as `source` in the episodes of an agent without a name."""


def collect(
    out: Path,
    split: str,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    results: Path | None = None,
) -> None:
    """`eto expert`"""
    from eto.environments.hosting.host import NoExpert
    from eto.environments.hosting.pool import EnvironmentPool
    from eto.experiment import play

    recipe = read_recipe(recipe_path, overrides, "expert", split=split)
    command = command_of("expert", split, recipe)
    replaces, inputs = overwrite or stopped_writing(out, command), inputs_of(recipe=recipe_path)
    check_file(out, overwrite=replaces, inputs=inputs)
    check_results(results, overwrite=replaces, inputs=inputs | inputs_of(out=out))
    suite = suite_of(recipe)
    tasks = tasks_of(recipe, suite, split)
    workers = recipe.environment.workers
    with Progress() as progress, Kept(out, command, overwrite=overwrite) as kept:
        kept.say_resuming(Phase.expert(), len(tasks), progress)
        store = kept.store
        with EnvironmentPool.within(suite, recipe.environment) as pool:
            streamed = play.collect(suite, tasks, workers=workers, store=store, progress=progress, pool=pool)
            missing = Counter(each.reason for each in streamed if isinstance(each, NoExpert))
        experts = play.kept_experts(store, tasks)
        kept.write()
        write_trajectories(out, experts)
        facts = {"environment": recipe.environment.name, "split": split, "tasks": len(tasks)}
        write_results(results, {**facts, "experts": len(experts), "without_expert": dict(missing)})
        kept.finish()
    progress.say(f"{len(experts)} of {len(tasks)} tasks have an expert that solves them: {out}")


def explore_tasks(
    out: Path,
    split: str,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    name: str = "",
    results: Path | None = None,
) -> None:
    """`eto explore`"""
    recipe = read_recipe(recipe_path, overrides, "explore", split=split, model=model)
    explore = section(recipe, ExploreSettings)
    played, _ = _played_and_written(
        *("explore", recipe, split, model, name, out, results, overwrite),
        inputs=inputs_of(model=model or recipe.model.path, recipe=recipe_path),
        temperature=explore.temperature,
        samples=explore.samples,
    )
    failed = sum(t.failed for t in played)
    say(
        f"{counted(len(played), 'trajectory', 'trajectories')} written: {out}"
        + (f" ({failed} failed and set aside)" * bool(failed))
    )


def evaluate_model(
    split: str,
    out: Path | None,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    name: str = "",
    results: Path | None = None,
) -> None:
    """`eto evaluate`"""
    from eto.cli.tables import print_parts
    from eto.evaluation.parts import Rows
    from eto.evaluation.table import agent_rows

    recipe = read_recipe(recipe_path, overrides, "evaluate", split=split, model=model)
    _, figures = _played_and_written(
        *("evaluate", recipe, split, model, name, out, results, overwrite),
        inputs=inputs_of(model=model or recipe.model.path, recipe=recipe_path),
        temperature=recipe.evaluation.temperature,
    )
    print_parts([Rows(*agent_rows({figures["agent"]: figures}), title=f"{split} tasks")])


def _played_and_written(
    command: str,
    recipe: Recipe,
    split: str,
    model: str | None,
    name: str,
    out: Path | None,
    results: Path | None,
    overwrite: bool,
    *,
    inputs: Mapping[str, Path | None],
    temperature: float,
    samples: int = 1,
) -> tuple[list[Trajectory], dict[str, Any]]:
    """Episodes of a split and their figures, written where `out` and `results` say."""
    from eto.evaluation.statistics import summarise

    place = model or recipe.model.path
    name = name or ("" if recipe.rollout.engine == "chat" else name_of(place))
    beside = out or results
    if beside:
        given = playing_command(command, recipe, split, model, name)
        replaces = overwrite or stopped_writing(beside, given)
        if out:
            check_file(out, overwrite=replaces, inputs=inputs)
        check_results(results, overwrite=replaces, inputs={**inputs, **inputs_of(out=out)})
    figures: dict[str, Any] = {
        "agent": name or place,
        "split": split,
        "environment": recipe.environment.name,
        "seed": recipe.seed,
    }

    def write(played: list[Trajectory]) -> None:
        figures.update(summarise(played, resamples=recipe.evaluation.bootstrap_resamples).to_dict())
        if out:
            write_trajectories(out, played)
        write_results(results, figures)

    played = play_split(
        *(command, beside, recipe, split, model, temperature, samples, write), name=name, overwrite=overwrite
    )
    return played, figures


def playing_command(
    command: str, recipe: Recipe, split: str, model: str | None, name: str = ""
) -> dict[str, Any]:
    """What decides the episodes of a split, the agent's name included, where it has one."""
    return command_of(command, split, recipe, model, **({"agent": name} if name else {}))


def make_pairs(
    expert: Path,
    explored: Path,
    out: Path,
    rules: str,
    form: str,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    results: Path | None = None,
) -> None:
    """`eto pairs`"""
    inputs = inputs_of(expert=expert, explored=explored, recipe=recipe_path)
    check_file(out, overwrite=overwrite, inputs=inputs)
    check_results(results, overwrite=overwrite, inputs=inputs | inputs_of(out=out))
    if rules == "reference":
        if form != "own" or recipe_path or overrides:
            problem = "the reference's rules have a form of their own and take nothing from a recipe"
            raise InputError(
                problem, where="--rules reference", hint="leave out --format, --recipe and overrides"
            )
        from eto.data.reference_pairs import read_reference_items, reference_pairs, write_reference_pairs

        items = reference_pairs(read_reference_items(expert), read_reference_items(explored))
        write_reference_pairs(out, items)
        write_results(results, {"pairs": len(items)})
        say(f"{counted(len(items), 'pair')} by the reference's rules: {out}")
        return
    if rules != "eto":
        raise InputError(f"unknown rules {rules!r}", where="--rules", hint="use eto or reference")
    from eto.credit.contrast import contrast_result

    recipe = read_recipe(recipe_path, overrides, "pairs")
    # Where nobody says who acted: an expert's missing reward counts as 1; here it must be an error.
    played = read_trajectories(explored, in_place_of_expert="explored")
    result = contrast_result(
        read_trajectories(expert, source="expert"),
        played,
        section(recipe, ContrastSettings),
        seed=recipe.seed,
    )
    write_pairs(out, result.pairs, form=cast(PairForm, form))
    write_results(results, {"pairs": len(result.pairs), **asdict(result.summary)})
    say(f"{counted(len(result.pairs), 'pair')} written: {out}")
    for name, count in asdict(result.summary).items():
        if count:
            say(f"  {name.replace('_', ' ')}: {count}")


def play_split(
    command: str,
    beside: Path | None,
    recipe: Recipe,
    split: str,
    model: str | None,
    temperature: float,
    samples: int,
    write: Callable[[list[Trajectory]], None],
    *,
    name: str = "",
    overwrite: bool = False,
) -> list[Trajectory]:
    """Episodes of a split, given to `write`, and kept beside the output `beside` until that is done."""
    from eto.experiment.play import play

    suite = suite_of(recipe)
    tasks = tasks_of(recipe, suite, split)
    with Progress() as progress, ExitStack() as stack:
        kept = None
        if beside:
            given = playing_command(command, recipe, split, model, name)
            kept = stack.enter_context(Kept(beside, given, overwrite=overwrite))
            kept.say_resuming(Phase(split), len(tasks) * samples, progress)
        played = play(
            _actor(recipe, model, stack, progress, name),
            suite,
            tasks,
            recipe,
            progress=progress,
            phase=Phase(split),
            samples=samples,
            temperature=temperature,
            store=kept.store if kept else None,
        )
        if kept:
            kept.write()
        write(played)
        if kept:
            kept.finish()
    return played


def _actor(recipe: Recipe, model: str | None, stack: ExitStack, progress: Progress, name: str = "") -> Actor:
    """Who plays: the recipe's model, or one behind a chat server; under a `name` of its own, where given."""
    if recipe.rollout.engine == "chat":
        from eto.engines.chat import chat_actor

        if model is not None:
            hint = "the chat server's model is rollout.chat.model"
            raise InputError("a chat server plays, not a model of ours", where="--model", hint=hint)
        assert recipe.rollout.chat is not None, "checked by RolloutSettings"
        actor = chat_actor(recipe.rollout.chat)
        return replace(actor, name=name) if name else actor
    progress.say("loading the model")
    return stack.enter_context(Acting(recipe, progress)).actor(policy_of(recipe, model), name or POLICY)
