"""Many environments at once, in worker processes with deadlines.

    with EnvironmentPool(suite, workers=2) as pool:
        pool.reset(0, task)
        [result] = pool.poll()
        pool.step(0, "look around")

Each submit gets exactly one `Result`. A worker that misses a deadline, holds too much memory
or dies is killed with all its simulators and started again; the request it was serving fails,
and episodes of its other slots fail as `collateral`, to be started again at no cost.
"""

from __future__ import annotations

import os
import queue
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import psutil

from eto.data.codec import from_line
from eto.data.texts import whole
from eto.environments.hosting.boundary import checked_spec, payload_fault
from eto.environments.hosting.host import Host
from eto.environments.hosting.java import SimulatorDied
from eto.environments.hosting.process import Inbox, StartWorker, Worker, WorkerProcess
from eto.environments.hosting.process_memory import equal_share_mb
from eto.environments.hosting.requests import Operation, Reply, Request, Result, answer, failed
from eto.errors import EnvironmentFailure, EtoError, InputError
from eto.protocols import TaskSuite
from eto.settings import EnvironmentLimits
from eto.settings.limits import Count, Positive, Whole, check_values
from eto.types import Task, Trajectory

__all__ = ["EnvironmentPool", "Result"]


class EnvironmentPool:
    """Environments of `suite` by slot number, spread over `workers` processes.

    start: makes a worker, on this machine or another.
    workers: 0 runs everything in this process, at once when submitted and without
        deadlines: for suites defined in a script, and for tests.
    step_seconds, reset_seconds, expert_seconds: deadlines of one request, counted from
        when its worker turns to it.
    memory_mb: most memory that a worker and all it started may hold, looked at twice a second; None: an
        equal share of the machine's. A leak costs a try of the episode that reaches it. Ignored with
        workers=0.

    What an environment raises or wrongly answers is a `Result` with its failure. Before any
    episode has begun, `InputError` and `MissingRequirement` mean that the suite cannot be played
    as it is: `poll` raises them. Raises `InputError` where workers cannot make the suite from its
    `spec`.
    """

    def __init__(
        self,
        suite: TaskSuite,
        workers: Whole = 2,
        step_seconds: Positive = 30.0,
        reset_seconds: Positive = 120.0,
        expert_seconds: Positive = 300.0,
        memory_mb: Count | None = None,
        start: StartWorker = WorkerProcess,
    ) -> None:
        given: dict[str, float | None] = {
            "workers": workers,
            "step_seconds": step_seconds,
            "reset_seconds": reset_seconds,
        }
        given |= {"expert_seconds": expert_seconds, "memory_mb": memory_mb}
        check_values(EnvironmentPool.__init__, given)
        self._deadlines: dict[str, float] = {
            "step": step_seconds,
            "reset": reset_seconds,
            "expert": expert_seconds,
            "close": reset_seconds,
        }
        self._ready: deque[Result] = deque()
        self._busy: set[int] = set()
        # Slots without a request when their worker was killed, and what to tell them; None: collateral.
        self._lost: dict[int, str | None] = {}
        self._playing: set[int] = set()
        self._proven = False  # an episode has begun
        self._abandoned: Counter[int] = Counter()  # slot -> results that nobody wants any more
        self._inbox = Inbox()
        self._host = Host(suite) if workers == 0 else None
        self._start = start
        self._workers: list[Worker] = []
        if workers:
            spec = checked_spec(suite)
            self._spec = spec
            self._memory_mb = equal_share_mb(workers) if memory_mb is None else memory_mb
            self._workers = [start(spec, self._inbox, self._memory_mb) for _ in range(workers)]

    @classmethod
    def within(
        cls, suite: TaskSuite, limits: EnvironmentLimits, start: StartWorker = WorkerProcess
    ) -> EnvironmentPool:
        """Simulators of `suite` with the workers, deadlines and memory of `limits`."""
        return cls(
            suite,
            limits.workers,
            step_seconds=limits.step_seconds,
            reset_seconds=limits.reset_seconds,
            memory_mb=limits.memory_mb,
            start=start,
        )

    def __enter__(self) -> EnvironmentPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def reset(self, slot: int, task: Task) -> None:
        """Start an episode in `slot`, whatever ran there before."""
        self._submit(Request(slot, "reset", task))

    def step(self, slot: int, action: str) -> None:
        self._submit(Request(slot, "step", action=whole(action)))

    def expert(self, slot: int, task: Task) -> None:
        """Ask for a verified expert trajectory; ends the episode that `slot` had."""
        self._submit(Request(slot, "expert", task))

    def finish(self, slot: int) -> None:
        """Close the simulator of `slot`, twice: that of a reset to come is a new one."""
        self._submit(Request(slot, "close"))

    def processes(self) -> list[psutil.Process]:
        """What the simulators have started and still runs: the descendants of the workers."""
        running: list[psutil.Process] = []
        for pid in [worker.pid for worker in self._workers] or [os.getpid()]:
            with suppress(psutil.NoSuchProcess):
                running += psutil.Process(pid).children(recursive=True) if pid else []
        return running

    def poll(self, timeout: float | None = None) -> list[Result]:
        """Available results, waiting at most `timeout` seconds for the first one.

        Returns [] at the timeout, and at once when nothing was submitted.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._receive(0.0)
            self._kill_overdue()
            results = self._wanted()
            if results or not self._busy or (end is not None and time.monotonic() >= end):
                break
            self._receive(self._wait_seconds(end))
        self._busy.difference_update(result.slot for result in results)
        return results

    def notify(self, news: Callable[[], None] | None) -> None:
        """Have `news` called, in another thread, whenever `poll` may have something new; None: no more."""
        self._inbox.news = news

    def deadline(self) -> float | None:
        """When a request will be overdue, as `time.monotonic` counts; `poll` then says so. None: never."""
        deadlines = [worker.deadline(self._deadlines) for worker in self._workers]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def abandon(self) -> None:
        """Leave all requests under way unanswered; their slots are free for others."""
        self._abandoned.update(self._busy)
        self._busy.clear()

    def close(self) -> None:
        """Ends all simulators and worker processes. Safe to call twice."""
        if self._host is not None:
            self._host.close()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.request_exit()
        for worker in workers:
            worker.kill(grace=0.0 if worker.requests else 2.0)

    def _wanted(self) -> list[Result]:
        """The available results, without those of abandoned requests."""
        results = []
        for result in self._ready:
            if self._abandoned[result.slot]:
                self._abandoned[result.slot] -= 1
            else:
                results.append(result)
        self._ready.clear()
        return results

    def _submit(self, request: Request) -> None:
        slot = request.slot
        if slot in self._busy:
            raise RuntimeError(f"slot {slot} has a request under way")
        self._busy.add(slot)
        if request.operation != "step":
            self._lost.pop(slot, None)
            self._playing.add(slot)
        elif slot in self._lost:
            self._ready.append(failed(request, self._lost.pop(slot)))
            return
        if request.task is not None and (fault := payload_fault(request.task.payload)):
            hint = "keep JSON values in it: text, numbers, lists, dicts with text keys"
            failure = EnvironmentFailure(fault, where=f"task {request.task.id}", hint=hint)
            self._ready.append(Result(slot, request.operation, failure=failure))
        elif self._host is not None:
            begun = time.monotonic()
            result = self._serve_here(request)
            result = replace(result, seconds=time.monotonic() - begun)
            if isinstance(result.failure, SimulatorDied):
                self._lost |= dict.fromkeys(self._playing - {slot})
            self._ready.append(result)
        else:
            self._workers[slot % len(self._workers)].send(request)

    def _receive(self, timeout: float) -> None:
        """Takes in every available reply, waiting for the first."""
        try:
            item = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            while True:
                self._take(*item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _take(self, worker: Worker, at: float, line: str | None) -> None:
        if worker not in self._workers:
            return  # the last words of one already replaced
        if line is None:
            ended = worker.excess or f"the simulator's process ended ({worker.exit_report()})"
            self._replace(worker, ended)
            return
        try:
            reply = from_line(Reply, line)
        except ValueError:
            self._replace(worker, "something in its worker process wrote into the pipe of its answers")
            return
        fault = reply.fault
        if not worker.ready:
            if fault is not None:
                raise fault.error()
            worker.ready, worker.since = True, at
            return
        if fault is not None and fault.died:
            self._replace(worker, fault.problem)
            return
        if not worker.requests:
            self._replace(worker, "its worker process answered twice")
            return
        request = worker.requests.popleft()
        worker.served = request.slot
        seconds, worker.since = at - worker.since, at
        self._ready.append(replace(self._result(request, reply), seconds=seconds))

    def _kill_overdue(self) -> None:
        for worker in list(self._workers):
            late = worker.overdue(self._deadlines)
            if late is not None:
                self._replace(worker, f"no answer within {late:g} s", late=True)

    def _replace(self, worker: Worker, problem: str, late: bool = False) -> None:
        worker.kill()
        index = self._workers.index(worker)
        if not worker.ready and not worker.lost:
            del self._workers[index]
            if worker.excess:
                raise InputError(worker.excess, where=self._spec[0], hint="a higher limit, to start at all")
            raise EnvironmentFailure(f"a worker process did not start: {problem}", where=self._spec[0])
        fresh = self._start(self._spec, self._inbox, self._memory_mb)
        self._workers[index] = fresh
        waiting = list(worker.requests)
        asked = {request.slot for request in waiting}
        mine = [slot for slot in self._playing - asked if slot % len(self._workers) == index]
        self._lost |= dict.fromkeys(mine)
        if not waiting and worker.served in mine:
            # It ended between two requests, by what the last one left behind. Someone must be charged, or
            # episodes would be started again for ever.
            self._lost[worker.served] = None if worker.lost else problem
        for number, request in enumerate(waiting):
            if number == 0:
                self._ready.append(failed(request, None if worker.lost else problem, late))
            elif request.operation == "step":
                self._ready.append(failed(request, None))
            else:
                fresh.send(request)  # it had not begun: nothing is lost

    def _wait_seconds(self, end: float | None) -> float:
        until = min((deadline for deadline in (self.deadline(), end) if deadline is not None), default=None)
        return 1.0 if until is None else min(max(until - time.monotonic(), 0.001), 1.0)

    def _result(self, request: Request, reply: Reply) -> Result:
        slot, operation, expert = request.slot, request.operation, reply.expert
        if reply.fault is not None:
            return Result(slot, operation, failure=self._failure(reply.fault.error(), operation))
        self._proven |= operation in ("reset", "expert")
        if isinstance(expert, Trajectory) and request.task is not None:
            expert = replace(expert, task=request.task)  # the caller's own, not what JSON made of it
        return Result(slot, operation, begun=reply.begun, step=reply.step, expert=expert)

    def _serve_here(self, request: Request) -> Result:
        assert self._host is not None, "there are worker processes"
        try:
            reply = answer(self._host, request)
        except EtoError as error:
            return Result(request.slot, request.operation, failure=self._failure(error, request.operation))
        return self._result(request, reply)

    def _failure(self, error: Exception, operation: Operation) -> EnvironmentFailure:
        """`error` as the failure of one episode; raises what says that the suite cannot be played."""
        if isinstance(error, EnvironmentFailure):
            return error
        if not isinstance(error, EtoError) or (operation != "step" and not self._proven):
            raise error
        return EnvironmentFailure(error.problem, where=error.where, hint=error.hint)
