"""Many environments at once, in worker processes with deadlines.

    with EnvironmentPool(suite, workers=2) as pool:
        pool.reset(0, task)
        [result] = pool.poll()
        pool.step(0, "look around")

Each submit gets exactly one `Result`. A worker that misses a deadline, holds too much memory
or dies is killed with all its simulators and started anew; the request it was serving fails,
and episodes of its other slots fail as `innocent`, to be started again at no cost.
"""

from __future__ import annotations

import json
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from eto.environments.java import SimulatorDied
from eto.environments.memory import equal_share_mb
from eto.environments.process import Kind, Request, WorkerProcess
from eto.environments.worker import Host, episode_from_json, error_from_json
from eto.errors import EnvironmentFailure, InputError
from eto.limits import Count, Positive, Whole, check_values
from eto.protocols import Step, TaskSuite
from eto.types import Task, Trajectory


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one submit: what its `kind` asked for, or a failure."""

    slot: int
    kind: Kind
    observation: str | None = None
    """Of a reset."""
    step: Step | None = None
    """Of a step."""
    trajectory: Trajectory | None = None
    """Of an expert; None also where the task has no expert that succeeds."""
    failure: EnvironmentFailure | None = None
    innocent: bool = False
    """The failure came from another slot's request; not to be counted as a try."""
    seconds: float = 0.0
    """How long the simulator worked on it, without waiting for other slots."""


class EnvironmentPool:
    """Environments of `suite` by slot number, spread over `workers` processes.

    workers: 0 runs everything in this process, at once when submitted and without
        deadlines: for suites defined in a script, and for tests.
    step_seconds, reset_seconds, expert_seconds: deadlines of one request, counted from
        when its worker turns to it.
    memory_mb: most memory that a worker and all it started may hold, looked at twice a second; None: an
        equal share of the machine's. A leak costs a try of the episode that reaches it. Not heeded with
        workers=0.

    `poll` raises what is wrong with the suite itself: `MissingRequirement`, `InputError`,
    and `RuntimeError` with the traceback of a bug in an environment.
    Raises `InputError` where workers could not import the suite's class.
    """

    def __init__(
        self,
        suite: TaskSuite,
        workers: Whole = 2,
        step_seconds: Positive = 30.0,
        reset_seconds: Positive = 120.0,
        expert_seconds: Positive = 300.0,
        memory_mb: Count | None = None,
    ) -> None:
        given = {"workers": workers, "step_seconds": step_seconds, "reset_seconds": reset_seconds}
        given |= {"expert_seconds": expert_seconds, "memory_mb": memory_mb}
        check_values(EnvironmentPool.__init__, given)
        self._deadlines = {"step": step_seconds, "reset": reset_seconds, "expert": expert_seconds}
        self._ready: deque[Result] = deque()
        self._busy: set[int] = set()
        # Slots without a request when their worker was killed, and what to tell them; None: innocent.
        self._lost: dict[int, str | None] = {}
        self._playing: set[int] = set()
        self._inbox: queue.SimpleQueue[tuple[WorkerProcess, float, str | None]] = queue.SimpleQueue()
        self._host = Host(suite) if workers == 0 else None
        self._workers: list[WorkerProcess] = []
        if workers:
            spec = suite.spec()
            if spec[0].startswith("__main__"):
                mend = "move the class into a module of its own, or use workers=0"
                raise InputError(
                    "worker processes cannot import a suite from a script", where=spec[0], mend=mend
                )
            self._spec = spec
            self._memory_mb = equal_share_mb(workers) if memory_mb is None else memory_mb
            self._workers = [WorkerProcess(spec, self._inbox, self._memory_mb) for _ in range(workers)]

    def __enter__(self) -> EnvironmentPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def reset(self, slot: int, task: Task) -> None:
        """Start an episode in `slot`, whatever ran there before."""
        self._submit(Request(slot, "reset", task))

    def step(self, slot: int, action: str) -> None:
        self._submit(Request(slot, "step", action=action))

    def expert(self, slot: int, task: Task) -> None:
        """Ask for a verified expert trajectory; ends the episode that `slot` had."""
        self._submit(Request(slot, "expert", task))

    def poll(self, timeout: float | None = None) -> list[Result]:
        """Results that are there, waiting at most `timeout` seconds for the first one.

        Returns [] at the timeout, and at once when nothing was submitted.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._receive(0.0)
            self._kill_overdue()
            if self._ready or not self._busy or (end is not None and time.monotonic() >= end):
                break
            self._receive(self._wait_seconds(end))
        results = list(self._ready)
        self._ready.clear()
        self._busy.difference_update(result.slot for result in results)
        return results

    def close(self) -> None:
        """Ends all simulators and worker processes. Safe to call twice."""
        if self._host is not None:
            self._host.close()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.say_goodbye()
        for worker in workers:
            worker.kill(grace=0.0 if worker.requests else 2.0)

    def _submit(self, request: Request) -> None:
        slot = request.slot
        if slot in self._busy:
            raise RuntimeError(f"slot {slot} has a request under way")
        self._busy.add(slot)
        if request.kind != "step":
            self._lost.pop(slot, None)
            self._playing.add(slot)
        elif slot in self._lost:
            self._ready.append(_failed(request, self._lost.pop(slot)))
            return
        if self._host is not None:
            begun = time.monotonic()
            result = _serve_here(self._host, request)
            result = replace(result, seconds=time.monotonic() - begun)
            if isinstance(result.failure, SimulatorDied):
                self._lost |= dict.fromkeys(self._playing - {slot})
            self._ready.append(result)
        else:
            self._workers[slot % len(self._workers)].send(request)

    def _receive(self, timeout: float) -> None:
        """Takes in every reply that is there, waiting for the first."""
        try:
            item = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            while True:
                self._take(*item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _take(self, worker: WorkerProcess, at: float, line: str | None) -> None:
        if worker not in self._workers:
            return  # the last words of one already replaced
        if line is None:
            ended = worker.excess or f"the simulator's process ended ({worker.last_words()})"
            self._replace(worker, ended)
            return
        reply = json.loads(line)
        error = reply.get("error")
        if not worker.ready:
            if error is not None:
                raise error_from_json(error)
            worker.ready, worker.since = True, at
            return
        if error is not None and error["died"]:
            self._replace(worker, error["problem"])
            return
        request = worker.requests.popleft()
        worker.served = request.slot
        seconds, worker.since = at - worker.since, at
        self._ready.append(replace(_result(request, reply), seconds=seconds))

    def _kill_overdue(self) -> None:
        for worker in list(self._workers):
            late = worker.overdue(self._deadlines)
            if late is not None:
                self._replace(worker, f"no answer within {late:g} s")

    def _replace(self, worker: WorkerProcess, problem: str) -> None:
        worker.kill()
        index = self._workers.index(worker)
        if not worker.ready:
            del self._workers[index]
            if worker.excess:
                raise InputError(worker.excess, where=self._spec[0], mend="a higher limit, to start at all")
            raise EnvironmentFailure(f"a worker process did not start: {problem}", where=self._spec[0])
        fresh = WorkerProcess(self._spec, self._inbox, self._memory_mb)
        self._workers[index] = fresh
        waiting = list(worker.requests)
        asked = {request.slot for request in waiting}
        mine = [slot for slot in self._playing - asked if slot % len(self._workers) == index]
        self._lost |= dict.fromkeys(mine)
        if worker.excess and not waiting and worker.served in mine:
            self._lost[worker.served] = problem  # killed between two requests: the last one filled it
        for number, request in enumerate(waiting):
            if number == 0:
                self._ready.append(_failed(request, problem))
            elif request.kind == "step":
                self._ready.append(_failed(request, None))
            else:
                fresh.send(request)  # it had not begun: nothing is lost

    def _wait_seconds(self, end: float | None) -> float:
        moments = [worker.deadline(self._deadlines) for worker in self._workers]
        until = min((moment for moment in [*moments, end] if moment is not None), default=None)
        return 1.0 if until is None else min(max(until - time.monotonic(), 0.001), 1.0)


def collect_experts(
    suite: TaskSuite,
    tasks: Sequence[Task],
    workers: Whole = 2,
    on_done: Callable[[Task, Trajectory | None], None] | None = None,
    tries: Count = 2,
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """Verified expert trajectories of `tasks`, in their order.

    Tasks without an expert that succeeds are left out, as are those whose simulator
    failed `tries` times. on_done: called once a task, as each is finished, with None for
    one left out. pool: simulators that stand already, with `workers` of them, and stay.
    """
    check_values(collect_experts, {"workers": workers, "tries": tries})
    found: dict[int, Trajectory] = {}
    waiting = deque((index, 1) for index in range(len(tasks)))
    running: dict[int, tuple[int, int]] = {}
    with nullcontext(pool) if pool is not None else EnvironmentPool(suite, workers) as pool:
        idle = list(range(max(workers, 1)))
        while waiting or running:
            while idle and waiting:
                slot, (index, attempt) = idle.pop(), waiting.popleft()
                running[slot] = (index, attempt)
                pool.expert(slot, tasks[index])
            for result in pool.poll():
                index, attempt = running.pop(result.slot)
                idle.append(result.slot)
                if result.failure is not None and (result.innocent or attempt < tries):
                    waiting.appendleft((index, attempt + (not result.innocent)))
                    continue
                if result.trajectory is not None:
                    found[index] = result.trajectory
                if on_done is not None:
                    on_done(tasks[index], result.trajectory)
    return [found[index] for index in sorted(found)]


def _result(request: Request, reply: dict[str, Any]) -> Result:
    slot, kind = request.slot, request.kind
    if (error := reply.get("error")) is not None:
        failure = error_from_json(error)
        if not isinstance(failure, EnvironmentFailure):
            raise failure
        return Result(slot, kind, failure=failure)
    if kind == "reset":
        return Result(slot, kind, observation=reply["observation"])
    if kind == "step":
        return Result(slot, kind, step=Step(**reply["step"]))
    return Result(slot, kind, trajectory=episode_from_json(request.task, reply["episode"]))


def _serve_here(host: Host, request: Request) -> Result:
    slot, kind = request.slot, request.kind
    try:
        if kind == "reset":
            return Result(slot, kind, observation=host.reset(slot, request.task))
        if kind == "step":
            return Result(slot, kind, step=host.step(slot, request.action))
        return Result(slot, kind, trajectory=host.expert(slot, request.task))
    except EnvironmentFailure as failure:
        return Result(slot, kind, failure=failure)


def _failed(request: Request, problem: str | None) -> Result:
    """problem: None for a slot that is innocent of it."""
    told = problem or "its worker process was killed on another episode's account"
    failure = EnvironmentFailure(told, where=f"{request.kind} in slot {request.slot}")
    return Result(request.slot, request.kind, failure=failure, innocent=problem is None)
