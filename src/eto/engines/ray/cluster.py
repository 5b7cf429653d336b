"""The connection to a Ray cluster: one for each process, shared by all that use it."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from typing import Any

from eto.data.texts import counted
from eto.errors import EngineFailure, InputError, MissingRequirement
from eto.machine import gpus
from eto.settings.engines import RaySettings

WHERE = "rollout.ray"
REACH_SECONDS = 5.0
"""Longest wait for somebody to listen at a cluster's address."""
FRAME_HEADER = 9
"""Bytes in front of each frame of HTTP/2: length (3), type, flags, stream (4)."""
SETTINGS_FRAME = 4
MB = 2**20
_lock = threading.RLock()
_members = 0
_ours = False
_address: str | None = None


class _NoCluster(Exception):
    """Ray has not begun."""


class Membership:
    """A use of the cluster; the last one to leave disconnects. A cluster started here ends then."""

    def __init__(self, settings: RaySettings) -> None:
        """Raises `MissingRequirement` without the package or the GPUs, `InputError` where no cluster of its
        version answers at the address, or this process uses another one."""
        global _members, _ours, _address
        check_package()
        with _lock:
            if _members == 0:
                _ours, _address = _connect(settings), settings.address
            elif settings.address != _address:
                problem = f"this process uses the cluster at {_address} already"
                raise InputError(problem, where=f"{WHERE}.address", hint="close what uses it first")
            _members += 1
        self._in = True

    def leave(self) -> None:
        """Safe to call twice."""
        global _members
        with _lock:
            if not self._in:
                return
            self._in = False
            _members -= 1
            if _members == 0 and _ours:
                import ray

                ray.shutdown()


def _connect(settings: RaySettings) -> bool:
    """Whether the connection is ours to end: where the program has one already, it is used and stays."""
    import ray

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _signals_kept():
        if settings.address is None:
            _start(settings, quiet)
        else:
            _join(settings.address, quiet)
    return True


def check_package() -> None:
    """Raises `MissingRequirement` without the package."""
    if util.find_spec("ray") is None:
        hint = "pip install 'eto-agent[ray]', here and on every node"
        raise MissingRequirement("the package ray is not installed", where=WHERE, hint=hint)


def check_gpus(settings: RaySettings, there: int) -> None:
    """Raises `MissingRequirement` where a cluster of one machine has fewer GPUs than replicas take."""
    if settings.replicas * settings.gpus_each > there:
        asked = f"{counted(settings.replicas, 'replica')} with {counted(settings.gpus_each, 'GPU')} each"
        hint = "lower it or rollout.ray.replicas, or give rollout.ray.address of a cluster that has them"
        problem = f"{asked} need more than {counted(there, 'GPU')} here"
        raise MissingRequirement(problem, where=f"{WHERE}.gpus_each", hint=hint)


def _start(settings: RaySettings, quiet: dict[str, Any]) -> None:
    import ray

    check_gpus(settings, sum(gpu["count"] for gpu in gpus()))
    # Replicas share the processors of this machine, however many they say they take.
    cpus = max(os.cpu_count() or 1, math.ceil(settings.replicas * settings.cpus_each))
    memory = settings.object_store_mb * MB
    try:
        with _told():
            ray.init("local", num_cpus=cpus, object_store_memory=memory, include_dashboard=False, **quiet)
    except _NoCluster as error:
        hint = "see what Ray wrote below /tmp/ray, or give rollout.ray.address of a cluster that runs"
        raise EngineFailure(f"no cluster could be started here: {error}", where=WHERE, hint=hint) from error


def _join(address: str, quiet: dict[str, Any]) -> None:
    import ray

    where = f"{WHERE}.address"
    if address.startswith("ray://"):
        hint = "give host:6379, the address that `ray start --head` says, on a machine of the cluster"
        raise InputError(f"{address} is one of Ray Client, which is not supported", where=where, hint=hint)
    hint = f"start it with `ray start --head` of ray {metadata.version('ray')}, or correct the address"
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise InputError(f"{address!r} is not host:port", where=where, hint=hint)
        try:  # Ray itself would try for minutes
            with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS) as head:
                greeted = _speaks_grpc(head)
        except (OSError, OverflowError) as error:
            raise InputError(f"no cluster answers at {address}: {error}", where=where, hint=hint) from error
        if not greeted:
            problem = f"what answers at {address} is not the head of a cluster"
            raise InputError(problem, where=where, hint=hint)
    try:
        with _told():
            ray.init(address, **quiet)
    except _NoCluster as error:
        problem = str(error).strip()
        if "ersion mismatch" in problem:
            hint = "install the same versions of Python and ray here and on every node"
        raise InputError(
            f"the cluster at {address} cannot be used: {problem}", where=where, hint=hint
        ) from error


@contextmanager
def _told() -> Iterator[None]:
    """What Ray raises where it cannot begin becomes `_NoCluster`, and what it left behind ends."""
    import ray

    known = (RuntimeError, ValueError, OSError, ray.exceptions.RayError)
    try:
        yield
    except Exception as error:
        ray.shutdown()
        if type(error) is Exception or isinstance(error, known):  # where a node is late it has no class
            raise _NoCluster(str(error)) from error
        raise


def _speaks_grpc(head: socket.socket) -> bool:
    """Whether it answers the opening of HTTP/2 with settings, as a cluster's head does (RFC 9113, 3.4)."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True  # it would not answer in plain text
    head.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, SETTINGS_FRAME, 0, 0, 0, 0, 0)))
    answer = b""
    while len(answer) < FRAME_HEADER:
        if not (piece := head.recv(FRAME_HEADER - len(answer))):
            return False
        answer += piece
    return answer[3] == SETTINGS_FRAME


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; our handlers come back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
