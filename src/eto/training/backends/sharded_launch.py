"""Processes that train: launched together, asked together, and gone together.

The driver listens on a socket in a directory that only this user can enter. Each rank connects to it and
serves commands (`eto.training.backends.sharded_worker`) until the driver says `end`, or is gone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil
import torch

from eto.data.texts import counted
from eto.environments.hosting.failures import one_line
from eto.errors import EngineFailure, EtoError, InputError
from eto.runtime import THREAD_VARIABLES
from eto.settings import DistributedSettings
from eto.training.backends.sharded_config import launched_by

WORKER = "eto.training.backends.sharded_worker"
END_SECONDS = 20.0
"""Until processes that were asked to end are killed."""
_TAIL = 4000
_RAISED = re.compile(r"^(?:\[rank\d+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception)\b.*)$", re.MULTILINE)
_OF_COLLECTIVES = "gloo|NCCL|Connection (reset|closed)"


class Processes:
    """The ranks of one training; a context manager, and none is left after it."""

    def __init__(self, settings: DistributedSettings, log: Path | None = None) -> None:
        """Launch them and wait until all are connected. `log`: where they write; by default a file that is
        deleted with them.

        Raises `InputError` for an accelerate config that cannot be used or more processes than GPUs,
        `EngineFailure` where they do not start.
        """
        command, self.count = launched_by(settings)
        gpus = torch.cuda.device_count()
        if gpus and self.count > gpus:
            raise InputError(
                f"{self.count} processes, but {counted(gpus, 'GPU')} here: each process takes one",
                where="train.processes",
                hint=f"set it to {gpus} or less",
            )
        self._folder = Path(tempfile.mkdtemp(prefix="eto-train-"))
        self.log = log or self._folder / "processes.log"
        self._launched: subprocess.Popen[bytes] | None = None
        self._ranks: list[Connection] = []
        self._processes: list[psutil.Process] = []
        address = str(self._folder / "driver")
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(address)
                listener.listen(self.count)
                listener.settimeout(0.2)
                self._launch([*command, "-m", WORKER, address])
                self._connect(listener, settings)
        except BaseException:
            self.kill()
            raise

    def ask(self, command: str, parts: Sequence[dict[str, Any]] | None = None, **all_of: Any) -> list[Any]:
        """Send `command` with the arguments `all_of` and, rank by rank, `parts`; returns each rank's answer.

        Raises what a rank raised, if it is one of `eto.errors`, else `EngineFailure`; the processes are gone
        then.
        """
        try:
            for rank, connection in enumerate(self._ranks):
                connection.send((command, all_of | (parts[rank] if parts else {})))
            return self._answers()
        except (OSError, EOFError) as error:  # a rank is gone
            raise self._lost(error) from error
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> list[Any]:
        answers: dict[int, Any] = {}
        waiting = dict(zip(self._ranks, range(self.count), strict=True))
        while waiting:
            for ready in wait(list(waiting)):
                assert isinstance(ready, Connection)
                rank = waiting.pop(ready)
                fault, answers[rank] = ready.recv()
                if fault:
                    raise self._raised(*self._first(rank, answers[rank], waiting))
        return [answers[rank] for rank in range(self.count)]

    @property
    def alive(self) -> bool:
        """Whether they can be asked."""
        return bool(self._ranks)

    def end(self) -> None:
        """Let them end by themselves; those that do not are killed."""
        with suppress(OSError):  # one is gone already
            for connection in self._ranks:
                connection.send(("end", {}))
        if self._launched is not None:
            with suppress(subprocess.TimeoutExpired):
                self._launched.wait(END_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End all of them at once."""
        for connection in self._ranks:
            connection.close()
        self._ranks = []
        if self._launched is not None:
            _end(self._launched, self._processes)
            self._launched = None
        if self.log.parent != self._folder and self.log.exists() and not self.log.stat().st_size:
            self.log.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()
        else:
            self.kill()

    def _launch(self, command: Sequence[str]) -> None:
        threads = max(1, torch.get_num_threads() // self.count)
        environment = {
            "GLOO_SOCKET_IFNAME": "lo",
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, str(threads)),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as out:
            self._launched = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _connect(self, listener: socket.socket, settings: DistributedSettings) -> None:
        """Accept all ranks. Raises `EngineFailure` if the launcher ends, or time is over, before."""
        assert self._launched is not None
        seconds = settings.start_seconds
        deadline = time.monotonic() + seconds
        found: dict[int, Connection] = {}
        while len(found) < self.count:
            if self._launched.poll() is not None or time.monotonic() > deadline:
                ended = self._launched.poll() is not None
                how = "did not start" if ended else f"not ready after {seconds:g} s"
                said, hint = self._tail(), "see what they wrote, above; train.start_seconds waits longer"
                if ended and (raised := _raised_in(said)):
                    said, hint = raised, f"correct what it names; {self._where_log()}"
                raise EngineFailure(
                    f"{counted(self.count, 'process', 'processes')} of training {how}: {said}",
                    where="train.accelerate_config" if settings.accelerate_config else "train.processes",
                    hint=hint,
                )
            with suppress(TimeoutError):
                accepted, _ = listener.accept()
                accepted.setblocking(True)
                connection = Connection(accepted.detach())
                with suppress(EOFError, OSError, psutil.NoSuchProcess):  # one that ends: so does the launcher
                    rank, pid = connection.recv()
                    self._processes.append(psutil.Process(pid))
                    found[rank] = connection
        self._ranks = [found[rank] for rank in range(self.count)]

    def _first(self, rank: int, error: Any, others: dict[Connection, int]) -> tuple[int, Any]:
        """The rank that failed first and its error: one that only lost another in a collective waits for
        word of that one. Raises `EOFError` where it is gone without a word."""
        if not isinstance(error, str) or not re.search(_OF_COLLECTIVES, error):
            return rank, error
        for ready in wait(list(others), END_SECONDS / 2):
            assert isinstance(ready, Connection)
            fault, other = ready.recv()
            if fault:
                return others[ready], other
        return rank, error

    def _raised(self, rank: int, error: Any) -> EtoError:
        """What rank `rank` raised, as this process raises it."""
        if isinstance(error, EtoError):
            return error
        return EngineFailure(
            f"process {rank} of {self.count} failed: {error}",
            where="training in several processes",
            hint="the same command resumes from the last checkpoint; " + self._where_log(),
        )

    def _lost(self, error: Exception) -> EtoError:
        """A rank is gone without a word: how it ended, in words."""
        assert self._launched is not None
        with suppress(subprocess.TimeoutExpired):
            self._launched.wait(END_SECONDS / 2)
        tail = self._tail()
        codes = re.findall(r"exitcode\s*:\s*(-?\d+)", tail)
        killed = str(-signal.SIGKILL) in codes
        how = "was killed (signal 9), perhaps for want of memory" if killed else "ended"
        hint = "the same command resumes from the last checkpoint"
        if killed:
            hint += "; for less memory set method.*.micro_batch_tokens lower, or train.backend to fsdp2"
        self.kill()
        return EngineFailure(
            f"one of the {self.count} processes of training {how}" + ("" if killed else f": {tail}"),
            where="training in several processes",
            hint=hint,
        )

    def _tail(self) -> str:
        """The end of what they wrote."""
        written = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return written[-_TAIL:].strip() or "they wrote nothing"

    def _where_log(self) -> str:
        kept = self.log.parent != self._folder
        return f"{self.log} has its traceback" if kept else "give a directory to keep what it wrote"


def _raised_in(written: str) -> str:
    """What the last traceback in `written` says was raised; "" where there is none. Not torchrun's own, which
    only counts the processes that failed."""
    raised = [line for line in _RAISED.findall(written) if "ChildFailedError" not in line]
    return one_line(raised[-1]) if raised else ""


def _end(launched: subprocess.Popen[bytes], ranks: Sequence[psutil.Process]) -> None:
    """The launcher ends its ranks, which are in sessions of their own; what is left of either is killed."""
    with suppress(psutil.NoSuchProcess):
        ranks = [*ranks, *psutil.Process(launched.pid).children(recursive=True)]
    if launched.poll() is None:
        launched.terminate()
        with suppress(subprocess.TimeoutExpired):
            launched.wait(5.0)
    for rank in ranks:
        with suppress(psutil.NoSuchProcess):
            rank.kill()
    launched.kill()
    launched.wait()
