"""What every environment must do, checked by playing it as a run does. Used by tests of each suite.

After the contract tests of dm_env: an environment that passes can be explored, replayed
and paired without special cases. The suite is listed here; its simulators are in a worker process,
across a pipe, with deadlines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import psutil

from eto.environments.hosting.boundary import checked_spec, payload_fault, task_faults, user_code
from eto.environments.hosting.host import NoExpert, build_suite
from eto.environments.hosting.pool import EnvironmentPool, Result
from eto.errors import EnvironmentFailure, EtoError
from eto.protocols import Step, TaskSuite
from eto.types import Task, Trajectory

CLOSE_SECONDS = 10.0
"""Time for processes to end after the last environment was closed."""
MALFORMED = ("", "   ", "\n", "xyzzy 7", "look\nlook", "\x00", "\ud800", "é☃" * 20, "a" * 5000)
"""Actions that no environment understands, or that break careless ones."""
MOST_TURNS = 30
"""Of an episode of such actions."""
USED, OTHER = 0, 1
"""Two simulators in one process."""


def check_environment(
    suite: TaskSuite,
    tasks: Sequence[Task] | None = None,
    monotone: bool = True,
    *,
    count: int = 5,
    workers: int = 1,
    step_seconds: float = 30.0,
    reset_seconds: float = 120.0,
) -> list[str]:
    """The ways in which `suite` breaks the contract, as sentences with their remedy; [] conforms.

    tasks: a few that the expert, where there is one, is known to solve and whose scores
        do not vary; None: up to `count` such of the first split. monotone: the reward is a best-so-far,
        which never falls. workers: 0 plays in this process, without deadlines. The check ends
        at the first deadline that passes.
    """
    return Check(suite, tasks, monotone, count).run(workers, step_seconds, reset_seconds)


class Check:
    """One check of a suite; `tasks` are those it was played on, `notes` what is not a breach."""

    def __init__(self, suite: TaskSuite, tasks: Sequence[Task] | None, monotone: bool, count: int) -> None:
        self.suite, self.monotone, self.count = suite, monotone, count
        self.tasks = None if tasks is None else list(tasks)
        self.notes: list[str] = []

    def run(self, workers: int, step_seconds: float, reset_seconds: float) -> list[str]:
        """The breaches."""
        listed, problems = _check_suite(self.suite, rebuilt=workers > 0)
        if any(problem.startswith(_UNPLAYABLE) for problem in problems):
            return problems
        self.notes += [f"the split {split} has no tasks" for split, tasks in listed.items() if not tasks]
        first = listed[self.suite.splits[0]]
        try:
            with EnvironmentPool(
                self.suite,
                workers,
                step_seconds=step_seconds,
                reset_seconds=reset_seconds,
                expert_seconds=2.5 * reset_seconds,
            ) as pool:
                play = _Simulators(pool)
                if self.tasks is None:
                    self.tasks = self._choose(play, first, problems)
                self._play_all(play, problems)
                problems += _left_behind(pool, play.running)
        except EtoError as error:
            problems.append(f"it cannot be played: {error}")
        return problems

    def _choose(self, play: _Simulators, listed: Sequence[Task], problems: list[str]) -> list[Task]:
        """Up to `count` tasks, evenly spread, whose expert solves them; the first ones where none does."""
        solved: list[Task] = []
        none: list[NoExpert] = []
        most = min(3 * self.count, len(listed))
        for number in range(most):
            task = listed[number * len(listed) // most]
            try:
                expert = play.expert(USED, task)
            except EnvironmentFailure as failure:
                problems.append(f"{task.id}: the simulator failed: {failure}")
                return [] if play.hung else list(listed[: self.count])
            if isinstance(expert, Trajectory):
                solved.append(task)
            else:
                none.append(expert)
            if len(solved) == self.count:
                break
        if not solved:
            wrong = next((why.detail for why in none if why.reason == "unsolved"), "it has none")
            self.notes.append(f"the expert solves none of {len(none)} tasks ({wrong}); checked without it")
        return solved or list(listed[: self.count])

    def _play_all(self, play: _Simulators, problems: list[str]) -> None:
        for task in self.tasks or ():
            if play.hung:
                problems.append("a deadline passed: the rest was not checked")
                return
            try:
                faults = list(_check_task(play, task, self.monotone))
            except EnvironmentFailure as failure:
                faults = [f"the simulator failed: {failure}"]
            problems += [f"{task.id}: {problem}" for problem in faults]
        for slot in (USED, OTHER):
            if not play.hung:
                try:
                    play.finish(slot)
                except EnvironmentFailure as failure:
                    problems.append(f"close fails, once or when called again: {failure}")


class _Simulators:
    """A pool asked one thing at a time."""

    def __init__(self, pool: EnvironmentPool) -> None:
        self._pool, self.hung, self.max_turns = pool, False, 0
        self.running = {child.pid for child in pool.processes()}

    def reset(self, slot: int, task: Task) -> str:
        self._pool.reset(slot, task)
        begun = self._answer().begun
        assert begun is not None, "a reset is answered with how the episode begins"
        self.max_turns = begun.max_turns
        return begun.observation

    def step(self, slot: int, action: str) -> Step:
        self._pool.step(slot, action)
        step = self._answer().step
        assert step is not None
        return step

    def expert(self, slot: int, task: Task) -> Trajectory | NoExpert:
        self._pool.expert(slot, task)
        expert = self._answer().expert
        assert expert is not None
        return expert

    def finish(self, slot: int) -> None:
        self._pool.finish(slot)
        self._answer()

    def play(self, slot: int, actions: Sequence[str]) -> list[Step]:
        """Steps up to the end of the episode."""
        steps: list[Step] = []
        for action in actions:
            steps.append(self.step(slot, action))
            if steps[-1].terminated or steps[-1].truncated:
                break
        return steps

    def _answer(self) -> Result:
        [result] = self._pool.poll()
        if result.failure is not None:
            self.hung |= result.late
            raise result.failure
        return result


_UNPLAYABLE = "the suite cannot be listed"


def _check_suite(suite: TaskSuite, rebuilt: bool) -> tuple[dict[str, list[Task]], list[str]]:
    """The tasks of each split, and what is wrong with them."""
    try:
        listed, problems = _check_splits(suite)
        if rebuilt and listed:
            split = next(iter(listed))
            spec = json.loads(json.dumps(checked_spec(suite)))
            again = build_suite(spec)
            with user_code("tasks"):
                same = list(again.tasks(split)) == listed[split]
            if not same:
                problems.append("the suite rebuilt from spec() has other tasks")
    except EtoError as error:
        return {}, [f"{_UNPLAYABLE}: {error}"]
    return listed, problems


def _check_splits(suite: TaskSuite) -> tuple[dict[str, list[Task]], list[str]]:
    listed: dict[str, list[Task]] = {}
    seen: dict[str, str] = {}
    problems: list[str] = []
    for split in suite.splits:
        with user_code("tasks"):
            tasks, again = list(suite.tasks(split)), list(suite.tasks(split))
        if faults := [f"{problem}\n  hint: {hint}" for problem, hint in task_faults(tasks)]:
            return {}, [f"{_UNPLAYABLE}: split {split}: {fault}" for fault in faults[:3]]
        listed[split] = tasks
        if tasks != again:
            problems.append(f"the tasks of {split} change from call to call")
        for task in tasks:
            if task.id in seen:
                problems.append(f"{task.id} is in {seen[task.id]} and again in {split}")
            seen[task.id] = split
            if task.split != split or task.environment != suite.name:
                problems.append(f"{task.id} does not carry its split and environment")
        broken = [(task, fault) for task in tasks if (fault := payload_fault(task.payload))]
        for task, fault in broken[:3]:
            problems.append(f"{task.id}: {fault}\n  hint: keep JSON values in the payload")
    if not listed or not next(iter(listed.values())):
        why = f"the split {suite.splits[0]} has no tasks" if listed else "it has no splits"
        return {}, [f"{_UNPLAYABLE}: {why}\n  hint: list tasks in the first of its `splits`"]
    return listed, problems


def _left_behind(pool: EnvironmentPool, running: set[int]) -> list[str]:
    """A sentence on the processes that were not among `running` and do not end in time."""
    new = [child for child in pool.processes() if child.pid not in running]
    _, alive = psutil.wait_procs(new, timeout=CLOSE_SECONDS)
    names = ", ".join(child.name() for child in alive)
    return [f"processes are left after the last environment was closed: {names}"] if names else []


def _check_task(play: _Simulators, task: Task, monotone: bool) -> Iterator[str]:
    expert = play.expert(USED, task)
    actions = list(expert.actions) if isinstance(expert, Trajectory) else None
    if isinstance(expert, NoExpert) and expert.reason == "unsolved":
        yield f"the expert does not solve it: {expert.detail}"
    first = play.reset(USED, task)
    steps = play.play(USED, actions or MALFORMED[3:5])
    yield from _check_steps(steps, monotone)

    played = list(actions or MALFORMED[3:5])[: len(steps)]
    prefix = played[: (len(played) + 1) // 2]
    if play.reset(OTHER, task) != first:
        yield "another environment starts the task with another observation"
    if _outcomes(play.play(OTHER, prefix)) != _outcomes(steps[: len(prefix)]):
        yield "a replayed prefix scores differently"

    # OTHER is in the middle of its episode while USED plays the whole one again.
    if play.reset(USED, task) != first:
        yield "a used environment starts the task with another observation"
    if _outcomes(play.play(USED, played)) != _outcomes(steps):
        yield "a replay in a used environment scores differently"
    rest = play.play(OTHER, played[len(prefix) :])
    if _outcomes(rest) != _outcomes(steps[len(prefix) :]):
        yield "an episode scores differently when another one runs beside it"

    play.reset(USED, task)
    yield from _check_malformed(play)
    if play.hung:
        return
    if play.reset(USED, task) != first:
        yield "malformed actions leak into the next episode"
    if _outcomes(play.play(USED, played)) != _outcomes(steps):
        yield "an episode scores differently after one of malformed actions"


def _check_malformed(play: _Simulators) -> Iterator[str]:
    """Actions without sense up to the end of the episode or the agent's cap of turns."""
    rest = min(play.max_turns, MOST_TURNS) - len(MALFORMED)
    for action in (*MALFORMED, *["xyzzy 7"] * rest):
        try:
            step = play.step(USED, action)
        except EnvironmentFailure as failure:
            yield f"the simulator failed at the action {action[:20]!r}: {failure}"
            return
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


def _outcomes(steps: Sequence[Step]) -> list[tuple[object, ...]]:
    """What must replay equally: all but the wording of observations."""
    return [(step.reward, step.score, step.terminated, step.truncated, step.success) for step in steps]
