"""Single stages on files: each command of `eto` but `run`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import cast

from eto.cli.compose import read_recipe
from eto.cli.kept import Kept, command_of
from eto.cli.outputs import check_file, inputs_of
from eto.cli.progress import Progress
from eto.cli.terminal import say, terminal
from eto.data.formats import PairForm, read_trajectories, write_pairs, write_trajectories
from eto.data.texts import shown
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

SHOWN = 10
"""Trajectories whose replay failed that are named on the terminal."""


def collect(
    out: Path, split: str, recipe_path: Path | None, overrides: Sequence[str], overwrite: bool = False
) -> None:
    """`eto expert`"""
    from eto.environments.hosting.pool import EnvironmentPool
    from eto.experiment import play

    recipe = read_recipe(recipe_path, overrides, "expert", split=split)
    check_file(out, overwrite=overwrite, inputs=inputs_of(recipe=recipe_path))
    suite = suite_of(recipe)
    tasks = tasks_of(recipe, suite, split)
    workers = recipe.environment.workers
    command = command_of("expert", split, recipe)
    with Progress() as progress, Kept(out, command, overwrite=overwrite) as kept:
        _say_resuming(kept, Phase.expert(), len(tasks), progress)
        store = kept.store
        with EnvironmentPool.within(suite, recipe.environment) as pool:
            list(play.collect(suite, tasks, workers=workers, store=store, progress=progress, pool=pool))
        experts = play.kept_experts(store, tasks)
        write_trajectories(out, experts)
        kept.finish()
    progress.say(f"{len(experts)} of {len(tasks)} tasks have an expert that solves them: {out}")


def replay_file(
    file: Path,
    out: Path,
    failed: Path | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """`eto replay`"""
    from eto.experiment import play
    from eto.rollout.replay import Replayed, stream_replay

    recipe = read_recipe(recipe_path, overrides, "replay")
    inputs = inputs_of(file=file, recipe=recipe_path)
    check_file(out, overwrite=overwrite, inputs=inputs)
    if failed:
        inputs |= inputs_of(out=out)
        check_file(failed, overwrite=overwrite, inputs=inputs, option="--failed")
    given = read_trajectories(file)
    progress = Progress()
    replayed = Replayed()
    suite, settings, limits = suite_of(recipe), recipe.rollout, recipe.environment
    with progress:
        streamed = stream_replay(given, suite, replayed, settings=settings, limits=limits)
        for finished, _ in enumerate(streamed, start=1):
            progress.update("replay", finished, len(given))
    others = [*replayed.failed, *replayed.not_replayable]
    if failed:
        write_trajectories(failed, others)
    play.check_some_replayed(replayed, len(given), recipe.environment.name)
    write_trajectories(out, replayed.verified)
    progress.say(
        f"{len(replayed.verified)} of {len(given)} verified: {out}\n"
        f"{len(replayed.failed)} failed, {len(replayed.not_replayable)} not replayable; "
        f"{replayed.other_observations} observations of verified ones are worded otherwise here"
    )
    if replayed.translated:
        progress.say(f"{replayed.translated} actions translated into the environment's dialect")
    if replayed.unknown_words:
        words = ", ".join(f"{word!r} ({count})" for word, count in replayed.unknown_words.most_common(SHOWN))
        progress.say(f"{replayed.unknown_words.total()} actions in words no dialect knows: {words}")
    for trajectory in others[:SHOWN]:
        progress.say(f"  {shown(trajectory.task.id, line=True)}: {shown(trajectory.detail, line=True)}")
    if len(others) > SHOWN:
        progress.say(f"  and {len(others) - SHOWN} more" + ("" if failed else "; --failed FILE keeps them"))


def explore_tasks(
    out: Path,
    split: str,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """`eto explore`"""
    recipe = read_recipe(recipe_path, overrides, "explore", split=split, model=model)
    check_file(
        out, overwrite=overwrite, inputs=inputs_of(model=model or recipe.model.path, recipe=recipe_path)
    )
    explore = section(recipe, ExploreSettings)
    played = play_split(
        "explore", out, recipe, split, model, explore.temperature, explore.samples, overwrite=overwrite
    )
    failed = sum(t.failed for t in played)
    say(f"{len(played)} trajectories written: {out}" + (f" ({failed} failed and set aside)" * bool(failed)))


def evaluate_model(
    split: str,
    out: Path | None,
    model: str | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """`eto evaluate`"""
    from eto.evaluation import agent_table
    from eto.evaluation.statistics import summarise

    recipe = read_recipe(recipe_path, overrides, "evaluate", split=split, model=model)
    if out:
        inputs = inputs_of(model=model or recipe.model.path, recipe=recipe_path)
        check_file(out, overwrite=overwrite, inputs=inputs)
    evaluation = recipe.evaluation
    played = play_split("evaluate", out, recipe, split, model, evaluation.temperature, overwrite=overwrite)
    summary = summarise(played, resamples=evaluation.bootstrap_resamples).to_dict()
    terminal().print(agent_table({model or recipe.model.path: summary}, title=f"{split} tasks"))


def make_pairs(
    expert: Path,
    explored: Path,
    out: Path,
    rules: str,
    form: str,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
) -> None:
    """`eto pairs`"""
    inputs = inputs_of(expert=expert, explored=explored, recipe=recipe_path)
    check_file(out, overwrite=overwrite, inputs=inputs)
    if rules == "reference":
        if form != "own" or recipe_path or overrides:
            problem = "the reference's rules have a form of their own and take nothing from a recipe"
            raise InputError(
                problem, where="--rules reference", hint="leave out --format, --recipe and overrides"
            )
        from eto.data.reference_pairs import read_reference_items, reference_pairs, write_reference_pairs

        items = reference_pairs(read_reference_items(expert), read_reference_items(explored))
        write_reference_pairs(out, items)
        say(f"{len(items)} pairs by the reference's rules: {out}")
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
    say(f"{len(result.pairs)} pairs written: {out}")
    for name, count in asdict(result.summary).items():
        if count:
            say(f"  {name.replace('_', ' ')}: {count}")


def play_split(
    command: str,
    out: Path | None,
    recipe: Recipe,
    split: str,
    model: str | None,
    temperature: float,
    samples: int = 1,
    *,
    overwrite: bool = False,
) -> list[Trajectory]:
    """Episodes of a split, written to `out` where it is given, and kept beside it until then."""
    from eto.experiment.play import play

    suite = suite_of(recipe)
    tasks = tasks_of(recipe, suite, split)
    with Progress() as progress, ExitStack() as stack:
        kept = None
        if out:
            command_line = command_of(command, split, recipe, model)
            kept = stack.enter_context(Kept(out, command_line, overwrite=overwrite))
            _say_resuming(kept, Phase(split), len(tasks) * samples, progress)
        played = play(
            _actor(recipe, model, stack, progress),
            suite,
            tasks,
            recipe,
            progress=progress,
            phase=Phase(split),
            samples=samples,
            temperature=temperature,
            store=kept.store if kept else None,
        )
        if kept and out:
            write_trajectories(out, played)
            kept.finish()
    return played


def _actor(recipe: Recipe, model: str | None, stack: ExitStack, progress: Progress) -> Actor:
    """Who plays: the recipe's model, or one behind a chat server."""
    if recipe.rollout.engine == "chat":
        from eto.engines.chat import chat_actor

        if model is not None:
            hint = "the chat server's model is rollout.chat.model"
            raise InputError("a chat server plays, not a model of ours", where="--model", hint=hint)
        assert recipe.rollout.chat is not None, "checked by RolloutSettings"
        return chat_actor(recipe.rollout.chat)
    progress.say("loading the model")
    return stack.enter_context(Acting(recipe, progress)).actor(policy_of(recipe, model), "policy")


def _say_resuming(kept: Kept, phase: Phase, total: int, progress: Progress) -> None:
    if earlier := len(kept.store.get(phase)):
        progress.say(f"resuming: {earlier} of {total} are kept in {kept.directory}")
