"""`eto replay`: trajectories from elsewhere, played again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eto.cli.compose import read_recipe
from eto.cli.kept import Kept, command_of, contents_of, stopped_writing
from eto.cli.outputs import check_file, check_results, inputs_of, write_results
from eto.cli.progress import Progress
from eto.data.formats import read_trajectories, write_trajectories
from eto.data.texts import shown
from eto.experiment.compose import suite_of
from eto.experiment.play import check_some_replayed
from eto.rollout.replay import REPLAYED, Replayed, stream_replay

SHOWN = 10
"""Trajectories whose replay failed that are named on the terminal."""


def replay_file(
    file: Path,
    out: Path,
    failed: Path | None,
    recipe_path: Path | None,
    overrides: Sequence[str],
    overwrite: bool = False,
    results: Path | None = None,
) -> None:
    """`eto replay`"""
    recipe = read_recipe(recipe_path, overrides, "replay")
    given = read_trajectories(file)
    command = command_of("replay", "", recipe, contents=contents_of({"file": file}))
    replaces = overwrite or stopped_writing(out, command)
    inputs = inputs_of(file=file, recipe=recipe_path)
    check_file(out, overwrite=replaces, inputs=inputs)
    if failed:
        check_file(failed, overwrite=replaces, inputs=inputs | inputs_of(out=out), option="--failed")
    check_results(results, overwrite=replaces, inputs=inputs | inputs_of(out=out, failed=failed))
    replayed = Replayed()
    suite = suite_of(recipe)
    with Progress() as progress, Kept(out, command, overwrite=overwrite) as kept:
        kept.say_resuming(REPLAYED, len(given), progress)
        streamed = stream_replay(
            *(given, suite, replayed),
            settings=recipe.rollout,
            limits=recipe.environment,
            store=kept.store,
        )
        for finished, _ in enumerate(streamed, start=1):
            progress.update("replay", finished, len(given))
        kept.write()
        if failed:
            write_trajectories(failed, [*replayed.failed, *replayed.not_replayable])
        check_some_replayed(replayed, len(given), recipe.environment.name)
        write_trajectories(out, replayed.verified)
        write_results(results, _figures(replayed, recipe.environment.name, len(given)))
        kept.finish()
    _say(replayed, len(given), out, failed, progress)


def _figures(replayed: Replayed, environment: str, count: int) -> dict[str, Any]:
    return {
        "environment": environment,
        "trajectories": count,
        "verified": len(replayed.verified),
        "failed": len(replayed.failed),
        "not_replayable": len(replayed.not_replayable),
        "other_observations": replayed.other_observations,
        "translated": replayed.translated,
        "unknown_words": dict(replayed.unknown_words.most_common()),
    }


def _say(replayed: Replayed, count: int, out: Path, failed: Path | None, progress: Progress) -> None:
    progress.say(
        f"{len(replayed.verified)} of {count} verified: {out}\n"
        f"{len(replayed.failed)} failed, {len(replayed.not_replayable)} not replayable; "
        f"{replayed.other_observations} observations of verified ones are worded otherwise here"
    )
    if replayed.translated:
        progress.say(f"{replayed.translated} actions translated into the environment's dialect")
    if replayed.unknown_words:
        words = ", ".join(f"{word!r} ({count})" for word, count in replayed.unknown_words.most_common(SHOWN))
        progress.say(f"{replayed.unknown_words.total()} actions in words no dialect knows: {words}")
    others = [*replayed.failed, *replayed.not_replayable]
    for trajectory in others[:SHOWN]:
        progress.say(f"  {shown(trajectory.task.id, line=True)}: {shown(trajectory.detail, line=True)}")
    if len(others) > SHOWN:
        progress.say(f"  and {len(others) - SHOWN} more" + ("" if failed else "; --failed FILE keeps them"))
