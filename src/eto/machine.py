"""Versions and hardware, as a run's manifest keeps them and a report shows them."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Instructions that decide how fast matrices are multiplied, as /proc/cpuinfo spells them."""
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/dri")
"""Where none of these is, Linux has no GPU, and torch need not be loaded to say so."""


def describe_machine() -> dict[str, Any]:
    """Versions and hardware of this machine. Imports torch only where there may be a GPU."""
    import psutil

    versions = {"python": platform.python_version()}
    for package in ("eto-agent", "torch", "transformers", "peft", "scienceworld"):
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    model, features = processor()
    return {
        "versions": versions,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "processor": model,
        "cpu_features": features,
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpus(),
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str] | None]:
    """The processor's name, and those of `CPU_FEATURES` it has; None where the system does not tell."""
    fallback = platform.processor() or platform.machine()
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return fallback, None
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or fallback, [name for name in CPU_FEATURES if name in flags]


def gpus() -> list[dict[str, Any]]:
    """Accelerators that torch can use: name, memory in GB (None where torch does not say), count."""
    if sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES)):
        return []
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return []
    device_type = accelerator.type
    counts: Counter[tuple[str, float | None]] = Counter()
    for index in range(torch.accelerator.device_count()):
        tell = getattr(getattr(torch, device_type), "get_device_properties", None)  # mps has none
        device = tell(index) if tell else None
        memory = round(device.total_memory / 1e9, 1) if device else None
        counts[device.name if device else f"{platform.machine()} {device_type}", memory] += 1
    return [{"name": name, "memory_gb": memory, "count": n} for (name, memory), n in counts.items()]


UNKNOWN = "hardware not known"


def hardware_line(hardware: Mapping[str, Any]) -> str:
    """CPUs, memory and GPUs of a manifest; what an older one does not record is left out, and `UNKNOWN`
    stands for all where there is none."""
    if hardware.get("cpus") is None:
        return UNKNOWN
    name, features = hardware.get("processor"), hardware.get("cpu_features")
    parts = [f"{hardware['cpus']} CPU{'s' * (hardware['cpus'] != 1)}"]
    if features is not None:
        matrix = [feature for feature in features if "bf16" in feature] or ["no bf16 instructions"]
        parts[0] += f" ({', '.join([str(name), *matrix])})"
    parts.append(f"{hardware['memory_gb']} GB")
    cards = hardware.get("gpus")
    if cards is not None:
        parts += [_gpu_text(**gpu) for gpu in cards] or ["no GPU"]
    return ", ".join(parts)


def _gpu_text(name: str, memory_gb: float | None, count: int) -> str:
    text = name if memory_gb is None else f"{name} with {memory_gb:g} GB"
    return f"{count} × {text}" if count > 1 else text
