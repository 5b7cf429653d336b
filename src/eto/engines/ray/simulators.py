"""Simulators' worker processes on the nodes of a cluster, for the pool of the driver."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from typing import Any

from eto.engines.ray.cluster import Membership
from eto.engines.ray.simulator_node import SimulatorNode
from eto.environments.hosting.failures import one_line
from eto.environments.hosting.process import Inbox, StartWorker, Worker
from eto.settings.engines import RaySettings

CONTROL_SECONDS = 10.0
"""Longest wait for an actor to tell how its worker process ended, or to end it."""


MOST_LOST = 100
"""Actors of one pool whose loss costs no try; an episode that kills them comes to an end by it."""


def starting(settings: RaySettings) -> StartWorker:
    """Starts workers on the cluster of `settings`."""
    losses: Counter[bool] = Counter()

    def start(spec: tuple[str, dict[str, Any]], inbox: Inbox, memory_mb: int) -> Worker:
        return RayWorker(settings, losses, spec, inbox, memory_mb)

    return start


class RayWorker(Worker):
    """A worker process on some node. One whose actor is gone, with its node or alone, is `lost`: its episodes
    begin again elsewhere. That the worker process below it ends is the simulators' doing."""

    def __init__(
        self,
        settings: RaySettings,
        losses: Counter[bool],
        spec: tuple[str, dict[str, Any]],
        inbox: Inbox,
        memory_mb: int,
    ) -> None:
        """`losses`: of all workers of the pool, before they were ready (False) and later (True). Raises what
        `Membership` raises."""
        import ray

        super().__init__()
        self._membership = Membership(settings)
        self._inbox = inbox
        self._losses, self._restarts = losses, settings.restarts
        self._report = ""
        self._sent = 0
        self.node = ""
        """Ray's id of the node where it is, once that is known."""
        self._over = threading.Event()
        # It reserves nothing: wherever the cluster still has a node, simulators find a place.
        remote: Any = ray.remote(SimulatorNode)
        options = {"num_cpus": 0, "scheduling_strategy": "SPREAD", "max_concurrency": 8}
        path = [entry or os.getcwd() for entry in sys.path]
        self._actor = remote.options(**options).remote(json.loads(json.dumps(spec)), memory_mb, path)
        self._actor.hello.remote().future().add_done_callback(self._met)
        self._listen()

    def write(self, line: str) -> None:
        self._actor.send.remote(self._sent, line)
        self._sent += 1

    def kill(self, grace: float = 0.0) -> None:
        import ray

        if self._over.is_set():
            return
        self._over.set()
        try:
            if not self.lost:
                ray.get(self._actor.kill.remote(grace), timeout=grace + CONTROL_SECONDS)
        except ray.exceptions.RayError:  # gone, or out of reach: its process ends with it
            pass
        finally:
            ray.kill(self._actor)
            self._membership.leave()

    def exit_report(self) -> str:
        return self._report

    # -- in threads of Ray ------------------------------------------------------------

    def _met(self, answer: Future[Any]) -> None:
        if answer.exception() is None:
            self.node = answer.result().node

    def _listen(self) -> None:
        self._actor.receive.remote().future().add_done_callback(self._heard)

    def _heard(self, answer: Future[Any]) -> None:
        if self._over.is_set():
            return
        error = answer.exception()
        if error is not None:
            self._report = one_line(str(error))
            self._losses[self.ready] += 1
            self.lost = self._losses[self.ready] <= (MOST_LOST if self.ready else self._restarts)
            self._inbox.put((self, time.monotonic(), None))
            return
        for line in answer.result():
            if line is None:
                self._actor.report.remote().future().add_done_callback(self._ended)
                return
            self._inbox.put((self, time.monotonic(), line))
        self._losses[False] = 0
        self._listen()

    def _ended(self, answer: Future[Any]) -> None:
        if answer.exception() is None:
            self.excess, self._report = answer.result()
        self._inbox.put((self, time.monotonic(), None))
