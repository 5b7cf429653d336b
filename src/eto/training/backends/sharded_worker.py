"""One rank of a training in several processes: serves the driver's commands until it says `end`.

Launched by torchrun or accelerate as `python -m eto.training.backends.sharded_worker ADDRESS`.
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from eto.errors import EtoError, MissingRequirement
from eto.runtime import quiet_libraries
from eto.training.backends.sharded_rank import Rank, Training

COLLECTIVE = datetime.timedelta(minutes=30)
"""Longest wait of a rank for the others within a command."""


class Reporting:
    """Tells the driver what is raised within, and lets it pass."""

    def __init__(self, connection: Connection, rank: int) -> None:
        self._connection, self._rank = connection, rank

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, Exception):
            self._connection.send((True, self._told(error)))

    def _told(self, error: Exception) -> Any:
        """An error for the user as it is; of any other its first line, for the log has the rest."""
        if isinstance(error, EtoError):
            return error
        if isinstance(error, torch.OutOfMemoryError):
            return MissingRequirement(
                f"process {self._rank} of training needs more memory than its GPU has",
                where="train",
                hint="set method.*.micro_batch_tokens lower, model.activation_checkpointing to true, or "
                "train.backend to fsdp2; the same command resumes from the last checkpoint",
            )
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:500]}"


ALONE = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}
"""What torchrun says to each rank; accelerate says nothing to a process that is alone."""


def main(address: str) -> None:
    if "RANK" not in os.environ:
        os.environ.update(ALONE)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    driver = socket.socket(socket.AF_UNIX)
    driver.connect(address)
    connection = Connection(driver.detach())
    connection.send((rank, os.getpid()))
    with Reporting(connection, rank):
        gpu = torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=COLLECTIVE)
        serve(connection, rank, world, device)
    dist.destroy_process_group()


def serve(connection: Connection, rank: int, world: int, device: torch.device) -> None:
    """Answer commands one after the other; the driver's end ends it."""
    training: Rank | None = None
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        if command == "end":
            return
        if command == "begin":
            training, answer = Rank(Training(**arguments), rank, world, device), None
        else:
            answer = getattr(training, command)(**arguments)
        connection.send((False, answer))


if __name__ == "__main__":
    quiet_libraries()
    main(sys.argv[1])
