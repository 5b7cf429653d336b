"""Run benchmarks: `python -m benchmarks [NAME ...] [--quick]`; all of them where none is named."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib import metadata

import eto  # noqa: F401  (threads and OpenMP waiting, before torch)
from benchmarks.frame import RESULTS, Outcome
from benchmarks.page import terminal, write_page

NAMES = (
    "start_up",
    "environments",
    "experts",
    "alfworld",
    "webshop",
    "limit",
    "rollouts",
    "engines",
    "dpo",
    "sft",
    "growth",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="smaller and fewer repetitions; not written")
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    for name in given.names or NAMES:
        print(f"{name} ...", flush=True)
        begun = time.monotonic()
        outcome: Outcome = importlib.import_module(f"benchmarks.{name}").run(quick=given.quick)
        print(terminal(outcome), flush=True)
        if not given.quick:
            record = {"name": name, **outcome.to_dict(), **circumstances(name, time.monotonic() - begun)}
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            write_page()


def circumstances(name: str, seconds: float) -> dict[str, object]:
    """Date, command, versions and hardware of a measurement."""
    versions = {
        package: metadata.version(package) for package in ("torch", "transformers", "trl", "accelerate")
    }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks {name}",
        "seconds": round(seconds),
        "versions": {"python": platform.python_version(), **versions},
        "hardware": hardware(),
    }


def hardware() -> str:
    """Cores, processor and the matrix instructions that matter."""
    import torch

    flags = [
        name
        for name, probe in (("AMX", "_is_amx_tile_supported"), ("avx512_bf16", "_is_avx512_bf16_supported"))
        if getattr(torch.cpu, probe, lambda: False)()
    ]
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model}, {' and '.join(flags) or 'no bf16 instructions'}"


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
