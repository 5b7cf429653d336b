"""What every environment must do, checked by running it. Used by tests of each suite.

After the contract tests of dm_env: an environment that passes can be explored, replayed
and paired without special cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import psutil

from eto.environments.worker import build_suite, check_step
from eto.errors import EnvironmentFailure
from eto.protocols import Environment, Step, TaskSuite
from eto.types import Task

CLOSE_SECONDS = 10.0
"""Time for processes to end after the last environment was closed."""
MALFORMED = ("", "   ", "\n", "xyzzy 7", "look\nlook", "\x00", "\ud800", "é☃" * 20, "a" * 5000)
"""Actions that no environment understands, or that break careless ones."""


def check_environment(suite: TaskSuite, tasks: Sequence[Task], monotone: bool = True) -> list[str]:
    """The ways in which `suite` breaks the contract on `tasks`, as sentences; [] conforms.

    tasks: a few that the expert, where there is one, is known to solve and whose scores
        do not vary. monotone: the reward is a best-so-far, which never falls.

    Raises what the environment raises, but for `EnvironmentFailure`.
    """
    problems = list(_check_suite(suite, tasks))
    running = {child.pid for child in _children()}
    used, other = suite.environment(), suite.environment()
    with closing(used), closing(other):
        for task in tasks:
            try:
                found = list(_check_task(suite, task, used, other, monotone))
            except EnvironmentFailure as failure:
                found = [f"the simulator failed: {failure}"]
            problems += [f"{task.id}: {problem}" for problem in found]
    used.close()  # a second time, which must be safe
    if left := _left_behind(running):
        problems.append(f"processes are left after the last environment was closed: {', '.join(left)}")
    return problems


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _left_behind(running: set[int]) -> list[str]:
    """Names of processes that were not among `running` and do not end in time."""
    new = [child for child in _children() if child.pid not in running]
    _, alive = psutil.wait_procs(new, timeout=CLOSE_SECONDS)
    return [child.name() for child in alive]


def _check_suite(suite: TaskSuite, tasks: Sequence[Task]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for split in suite.splits:
        listed = suite.tasks(split)
        if listed != suite.tasks(split):
            yield f"the tasks of {split} change from call to call"
        for task in listed:
            if task.id in seen:
                yield f"{task.id} is in {seen[task.id]} and again in {split}"
            seen[task.id] = split
            if task.split != split or task.environment != suite.name:
                yield f"{task.id} does not carry its split and environment"
    if build_suite(suite.spec()).tasks(suite.splits[0]) != suite.tasks(suite.splits[0]):
        yield "the suite rebuilt from spec() has other tasks"
    for task in tasks:
        if suite.max_turns(task) < 1:
            yield f"{task.id} allows no turn"


def _check_task(
    suite: TaskSuite, task: Task, used: Environment, other: Environment, monotone: bool
) -> Iterator[str]:
    actions = suite.expert_actions(task, used)
    first = used.reset(task)
    messages = suite.messages(task, first)
    if not messages or messages[-1].role != "user":
        yield "the prompt does not end on a user message"
    steps = _play(used, list(actions or MALFORMED[3:5]))
    yield from _check_steps(steps, monotone)
    if actions and not (steps[-1].terminated and steps[-1].success):
        yield f"the expert ends with reward {steps[-1].reward}, success {steps[-1].success}"

    played = list(actions or MALFORMED[3:5])[: len(steps)]
    prefix = played[: (len(played) + 1) // 2]
    if other.reset(task) != first:
        yield "another environment starts the task with another observation"
    if _outcomes(_play(other, prefix)) != _outcomes(steps[: len(prefix)]):
        yield "a replayed prefix scores differently"

    # `other` is in the middle of its episode while `used` plays the whole one again.
    if used.reset(task) != first:
        yield "a used environment starts the task with another observation"
    if _outcomes(_play(used, played)) != _outcomes(steps):
        yield "a replay in a used environment scores differently"
    rest = _play(other, played[len(prefix) :])
    if _outcomes(rest) != _outcomes(steps[len(prefix) :]):
        yield "an episode scores differently when another one runs beside it"

    used.reset(task)
    yield from _check_malformed(used)
    if used.reset(task) != first:
        yield "malformed actions leak into the next episode"
    if _outcomes(_play(used, played)) != _outcomes(steps):
        yield "an episode scores differently after one of malformed actions"


def _check_malformed(environment: Environment) -> Iterator[str]:
    for action in MALFORMED:
        step = check_step(environment.step(action))
        if step.success:
            yield f"the action {action[:20]!r} solves the task"
        if step.terminated or step.truncated:
            return


def _check_steps(steps: Sequence[Step], monotone: bool) -> Iterator[str]:
    for number, step in enumerate(steps):
        if step.success and not step.terminated:
            yield f"turn {number}: success without an end"
        if step.terminated and step.truncated:
            yield f"turn {number}: both terminated and truncated"
        if monotone and number and step.reward < steps[number - 1].reward:
            yield f"turn {number}: the reward falls from {steps[number - 1].reward} to {step.reward}"


def _play(environment: Environment, actions: Sequence[str]) -> list[Step]:
    """Steps up to the end of the episode. Raises `EnvironmentFailure` for bad rewards."""
    steps: list[Step] = []
    for action in actions:
        steps.append(check_step(environment.step(action)))
        if steps[-1].terminated or steps[-1].truncated:
            break
    return steps


def _outcomes(steps: Sequence[Step]) -> list[tuple[object, ...]]:
    """What must replay equally: all but the wording of observations."""
    return [(step.reward, step.score, step.terminated, step.truncated, step.success) for step in steps]
