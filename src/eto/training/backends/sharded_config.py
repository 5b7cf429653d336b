"""How the processes of a training are launched: by torchrun, or as an accelerate config says."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from eto.data.files import disk_errors
from eto.errors import InputError, MissingRequirement
from eto.settings import DistributedSettings

PLAIN = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP")
"""Values of an accelerate config's `distributed_type` that only say where processes run; `train.backend`
says how they train."""


def launched_by(settings: DistributedSettings) -> tuple[list[str], int]:
    """The command that launches a module given by `-m`, and the number of processes.

    Raises `InputError` for an accelerate config that cannot be used, `MissingRequirement` without accelerate.
    """
    if settings.accelerate_config is None:
        return _torchrun(settings.processes), settings.processes
    path = Path(settings.accelerate_config).expanduser()
    config = _read(path)
    count = config.get("num_processes", 1)
    if settings.processes not in (1, count):
        raise InputError(
            f"num_processes is {count}, but train.processes {settings.processes}",
            where=str(path),
            hint="leave train.processes out",
        )
    if config.get("use_cpu") or config.get("distributed_type") == "MULTI_CPU":
        # accelerate launches several processes on CPUs by MPI alone.
        return _torchrun(count), count
    if find_spec("accelerate") is None:
        raise MissingRequirement(
            "the package accelerate is not installed",
            where=str(path),
            hint="pip install eto-agent[distributed]",
        )
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)], count


def counted(settings: DistributedSettings) -> DistributedSettings:
    """`settings` with as many processes as will be launched. Raises as `launched_by`."""
    return settings.replace(processes=launched_by(settings)[1]) if settings.on else settings


def _torchrun(count: int) -> list[str]:
    local = ["--standalone", "--local-addr=127.0.0.1", "--nnodes=1", "--max-restarts=0"]
    return [sys.executable, "-m", "torch.distributed.run", *local, f"--nproc-per-node={count}"]


def _read(path: Path) -> dict[str, Any]:
    """Raises `InputError` for a file that is none, or asks for what is not done here."""
    with disk_errors(path):
        if not path.is_file():
            raise _refused(path, "there is no such file", "`accelerate config --config_file FILE` writes one")
        content = path.read_bytes()
    try:
        config = yaml.safe_load(content.decode())
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refused(path, f"is not YAML: {' '.join(str(error).split())[:200]}", "correct it") from error
    if not isinstance(config, dict):
        raise _refused(path, "is not an accelerate config", "`accelerate config` writes one")
    kind, machines = config.get("distributed_type", "NO"), config.get("num_machines", 1)
    if kind not in PLAIN:
        raise _refused(path, f"distributed_type: {kind} is not supported", f"use one of {', '.join(PLAIN)}")
    if machines != 1:
        raise _refused(path, f"num_machines: {machines}, but processes run on one machine", "set it to 1")
    count = config.get("num_processes", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise _refused(path, f"num_processes: {count!r} is no number of processes", "give 1 or more")
    if kind == "NO" and count > 1 and not config.get("use_cpu"):
        hint = "set distributed_type to MULTI_GPU, or num_processes to 1"
        raise _refused(path, f"num_processes: {count}, but distributed_type: NO is one process", hint)
    return config


def _refused(path: Path, problem: str, hint: str) -> InputError:
    return InputError(problem, where=str(path), hint=hint)
