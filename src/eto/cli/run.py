"""`eto run`: a recipe from start to report, resumable at any point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eto.cli.compose import read_recipe
from eto.cli.events import Events
from eto.cli.outputs import MARKDOWN, check_file
from eto.cli.panel import Panel
from eto.cli.progress import Progress
from eto.cli.tables import print_parts
from eto.cli.terminal import say, terminal
from eto.data.files import disk_errors
from eto.errors import InputError
from eto.evaluation import write_report
from eto.experiment.experiment import perform
from eto.experiment.fork import stages_of
from eto.experiment.recipe import Recipe


def run_recipe(
    path: Path,
    overrides: Sequence[str],
    source: Path | None = None,
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Run the recipe at `path`; prints the table of agents at the end. What the run in `source` has
    finished and the recipe leaves unchanged is taken from it. quiet: errors alone are printed; as_json:
    events, as JSON lines. Raises `InputError` for both."""
    if quiet and as_json:
        raise InputError("--quiet and --json do not go together", where="eto run", hint="give one of the two")
    recipe = read_recipe(path, overrides, "run")
    if quiet:
        perform(recipe, source=source)
        write_report(recipe.directory)
    elif as_json:
        _run_with_events(recipe, source)
    else:
        with _shown(recipe) as progress:
            progress.say(f"{recipe.name}: {path} -> {recipe.directory}")
            perform(recipe, source=source, watch=progress)
        results = print_report(recipe.directory)
        _say_what_next(recipe, path, results, Progress())


def _shown(recipe: Recipe) -> Progress:
    """A panel on a terminal, lines elsewhere."""
    console = terminal()
    if not console.is_terminal:
        return Progress(console)
    return Panel(console, planned=stages_of(recipe), title=recipe.name)


def _run_with_events(recipe: Recipe, source: Path | None) -> None:
    from eto.data.files import read_json

    events = Events()
    events.write("begin", name=recipe.name, directory=str(recipe.directory))
    perform(recipe, source=source, watch=events)
    results = read_json(write_report(recipe.directory).results)
    events.write("end", directory=str(recipe.directory), results=results)


def print_report(directory: Path) -> Mapping[str, Any]:
    """Print the table of a run directory and write its report; returns its figures."""
    from eto.data.files import finite
    from eto.evaluation import build_results
    from eto.evaluation.report_text import report_parts

    results = finite(build_results(directory))
    progress = Progress()
    print_parts(report_parts(results), progress.console)
    paths = write_report(directory, results)
    progress.say(f"figures {paths.results}")
    progress.say(f"report {paths.markdown}")
    progress.say(f"learning curve {paths.curve}")
    return results


def print_pooled(
    directories: Sequence[Path], against: Sequence[Path], out: Path | None, overwrite: bool = False
) -> None:
    """Print the pooled table of several runs, or what sets them apart from others; or write it to `out`."""
    from eto.data.files import write_atomic
    from eto.evaluation.parts import parts_markdown
    from eto.evaluation.pooled import compare_runs, comparison_parts, pool_runs, pooled_parts

    if out is not None:
        runs = {f"the run {path.name}": path for path in (*directories, *against)}
        check_file(out, overwrite=overwrite, inputs=runs, form=MARKDOWN)
    if against:
        parts = comparison_parts(compare_runs(directories, against), against)
    else:
        parts = pooled_parts(pool_runs(directories))
    if out is None:
        print_parts(parts)
    else:
        with disk_errors(out):
            write_atomic(out, parts_markdown(parts))
        say(f"written: {out}")


def _say_what_next(recipe: Recipe, path: Path, results: Mapping[str, Any], progress: Progress) -> None:
    first, shipped = first_and_shipped(results)
    [stage] = (stage.name for stage in stages_of(recipe) if stage.agent == shipped)
    model = recipe.directory / "stages" / stage / "model"
    if shipped != first:
        progress.say(what_changed(recipe.directory, first, shipped))
    progress.say("what next:")
    progress.say(
        f"  eto view {recipe.directory}   # in the browser; here: eto show {recipe.directory} --gained"
    )
    progress.say(f"  eto evaluate --model {model} --recipe {path} --split dev")
    key, value = ("run_directory", recipe.run_directory) if recipe.run_directory else ("name", recipe.name)
    value = value.removesuffix(f"-seed{recipe.seed}")
    progress.say(f"  eto run {path} seed={recipe.seed + 1} {key}={value}-seed{recipe.seed + 1}")
    progress.say("  eto doctor; eto --help; docs/ tells how to bring your own model and tasks")


def first_and_shipped(results: Mapping[str, Any]) -> tuple[str, str]:
    """The agent that others of a run are compared with, and the one that it ships; from its figures."""
    return results["baseline"], results["shipped"]["agent"] if results["shipped"] else results["baseline"]


def what_changed(directory: Path, first: str, shipped: str) -> str:
    """How many test tasks one agent of a run solves and the other does not."""
    from eto.data.store import TrajectoryStore
    from eto.evaluation.changes import changes
    from eto.types import Phase

    with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
        before, after = (store.get(Phase.evaluate(agent, "test")) for agent in (first, shipped))
    found = changes(before, after)
    gained, lost, kept, missed = map(len, (found.gained, found.lost, found.kept, found.missed))
    return (
        f"test tasks solved by {shipped} and not by {first}: {gained}; the other way round: {lost}; "
        f"by both: {kept}; by none: {missed}"
    )
