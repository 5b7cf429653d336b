"""A virtual environment for vLLM, built once for its pins and shared by all runs.

vLLM pins other versions of torch and transformers than ours, so it never shares our environment; we speak
to it over HTTP alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from eto.data.files import disk_errors
from eto.engines.vllm import guard
from eto.engines.vllm.process import GRACE_SECONDS
from eto.errors import MissingRequirement
from eto.paths import cache_dir

COMPLETE = "complete.json"
"""Written last: without it the environment is half-built."""
TAIL = 5
"""Lines of pip's output that an error shows."""
INSTALL = ("-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--progress-bar", "off")

Say = Callable[[str], None]


def place_of(packages: Sequence[str], without: Sequence[str] = (), cache: Path | None = None) -> Path:
    """Where the environment of these pins is, whether or not it exists: named by a hash of the pins, of
    `without` and of the Python version."""
    version = ".".join(map(str, sys.version_info[:2]))
    pins = json.dumps([sorted(packages), sorted(without), version])
    return (cache or cache_dir()) / "engines" / hashlib.sha256(pins.encode()).hexdigest()[:16]


def installed_python(
    packages: Sequence[str], without: Sequence[str] = (), *, say: Say = print, cache: Path | None = None
) -> Path:
    """The interpreter of an environment with `packages`, which is built where there is none.

    `packages`: what pip installs, such as `vllm==0.33.0`. `without`: dependencies that are removed again,
    as they do not work beside the others. Several processes may ask at once: one builds, the others wait.
    What a killed or failed build left is removed.

    Raises `MissingRequirement` where pip cannot install them, or the disk is full.
    """
    place = place_of(packages, without, cache)
    python = place / "bin" / "python"
    if (place / COMPLETE).is_file():
        return python
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f".{place.name}.lock"):
            if not (place / COMPLETE).is_file():
                say(f"installing {' '.join(packages)} into {place} (once, several minutes)")
                _build(place, packages, without)
    return python


def _build(place: Path, packages: Sequence[str], without: Sequence[str]) -> None:
    """Not renamed into its place when finished: an environment's scripts name the path they were made at."""
    shutil.rmtree(place, ignore_errors=True)
    python = str(place / "bin" / "python")
    try:
        _run([sys.executable, "-m", "venv", str(place)], packages)
        _run([python, *INSTALL, *packages], packages)
        if without:
            _run([python, "-m", "pip", "uninstall", "--yes", *without], packages)
        frozen = _run([python, "-m", "pip", "freeze"], packages).split()
        content = {"packages": list(packages), "without": list(without), "installed": frozen}
        (place / COMPLETE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(place)
        raise


def _run(command: Sequence[str], packages: Sequence[str]) -> str:
    """What it wrote to its standard output."""
    # Variables of the environment that eto runs in would point pip at ours.
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    status, out, errors = _guarded(command, clean)
    if status == 0:
        return out
    said = [line for line in (out + errors).splitlines() if line.strip()][-TAIL:]
    raise MissingRequirement(
        "\n".join([f"{' '.join(packages)} could not be installed", *(f"  {line}" for line in said)]),
        where="rollout.vllm.packages",
        hint="correct the pins, or name a vLLM of your own in rollout.vllm.command",
    )


def _guarded(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit status, standard output and error of a command that ends with this process, however that ends:
    left alone it would build on beside the next start, in a place that is removed."""
    held, hold = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-I", guard.__file__, str(GRACE_SECONDS), *command],
        env=dict(environment),
        stdin=held,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as running:
        os.close(held)
        try:
            out, errors = running.communicate()
        finally:
            os.close(hold)
            running.wait()
    return running.returncode, out, errors
