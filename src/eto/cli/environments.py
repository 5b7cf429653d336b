"""`eto environments`: what is installed, and whether an environment keeps its contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from eto.data.texts import brief, counted
from eto.environments import load_suite, required_options, suite_names
from eto.environments.hosting.boundary import listed_tasks
from eto.environments.toolkit.conformance import Check
from eto.errors import EtoError, InputError, MissingRequirement
from eto.experiment.recipe_yaml import read_yaml
from eto.protocols import TaskSuite

FAILED = 1
Protocol = Literal["agentgym", "openenv"]
"""What an environment is served over."""


def list_environments(console: Console) -> None:
    """A line for each known environment: its tasks by split, or what it lacks."""
    for name, source in suite_names().items():
        origin = "" if source == "eto" else f" (from {source})"
        console.print(f"{name}{origin}\n    {_state(name)}", markup=False, highlight=False)


def _state(name: str) -> str:
    try:
        if needed := required_options(name):
            return f"needs options: {', '.join(needed)}"
        suite = load_suite(name)
        counts = ", ".join(f"{len(listed_tasks(suite, split))} {split}" for split in suite.splits)
        return f"tasks: {counts}"
    except MissingRequirement as error:
        return f"missing: {error.problem}\n    hint: {error.hint}"
    except EtoError as error:
        return f"cannot be loaded: {error}"


def check(
    console: Console,
    name: str,
    options: Sequence[str],
    count: int,
    step_seconds: float = 30.0,
    reset_seconds: float = 120.0,
) -> int:
    """Run the conformance check on `count` training tasks that the expert solves; the exit code."""
    suite = suite_with(name, options)
    conformance = Check(suite, None, True, count)
    problems = conformance.run(1, step_seconds, reset_seconds)
    for note in conformance.notes:
        console.print(f"{name}: {note}", markup=False, highlight=False)
    for problem in problems:
        console.print(f"breach: {problem}", markup=False, highlight=False)
    counted = f"{len(problems)} breach{'es' * (len(problems) > 1)}"
    verdict = counted if problems else "keeps the contract"
    checked = len(conformance.tasks or ())
    console.print(f"{name}: {verdict}, checked on {checked} tasks", markup=False, highlight=False)
    return FAILED if problems else 0


def serve(
    name: str,
    options: Sequence[str],
    split: str,
    host: str,
    port: int,
    idle_seconds: float,
    protocol: Protocol = "agentgym",
    sessions: int | None = None,
) -> None:
    """Serve the tasks of a split over a protocol until interrupted.

    sessions: most at a time; None takes the protocol's default, which AgentGym's is without.
    """
    if protocol == "agentgym" and sessions is not None:
        hint = "leave out --sessions, or take --protocol openenv"
        raise InputError("AgentGym's protocol does not limit sessions", where="--sessions", hint=hint)
    try:
        from eto.cli.serving import check_free, run_server

        if protocol == "openenv":
            from eto.environments.remote import serving_openenv
        else:
            from eto.environments.remote import serving_agentgym
    except ModuleNotFoundError as error:
        hint = "pip install 'eto-agent[serve]'"
        raise MissingRequirement(f"the package {error.name!r} is not installed", hint=hint) from error
    check_free(host, port)
    suite = suite_with(name, options)
    tasks = listed_tasks(suite, split)
    if not tasks:
        where = f"environment {suite.name}, split {split}"
        raise InputError("there are no tasks to serve", where=where, hint="take another --split")
    if protocol == "openenv":
        most = serving_openenv.SESSIONS if sessions is None else sessions
        app = serving_openenv.build_app(suite, tasks, split, idle_seconds, most)
    else:
        app = serving_agentgym.build_app(suite, tasks, idle_seconds)
    run_server(app, host, port, f"{suite.name}, {counted(len(tasks), 'task')} of {split}, over {protocol}: ")


def suite_with(name: str, options: Sequence[str]) -> TaskSuite:
    """The suite `name` with options as `NAME=VALUE`. Raises as `load_suite`."""
    return load_suite(name, **dict(_option(text) for text in options))


def _option(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"{brief(text)} is not an option", hint="write NAME=VALUE, for example products=100")
    return name, read_yaml(value, f"option {name}")[0]
