"""How long a user waits for the first sign: fresh processes of the `eto` command, timed from outside.

`eto --help`, `eto doctor`, and `eto run recipes/quickstart.yaml` in an empty run directory until the
first line of a stage's progress, with the model already in the cache. After that line the run is left
alone until its simulator works and is then killed; a process that stays behind is an error.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from benchmarks.frame import Outcome, Ratio, alternate, rows
from eto.models.embedded import embedded_model

ROOT = Path(__file__).resolve().parents[1]
HELP, DOCTOR, RUN = "eto --help", "eto doctor", "eto run, first progress line"
TARGETS = {HELP: 0.5, DOCTOR: 3.0, RUN: 5.0}
PROGRESS = re.compile(r"^[\w/-]+ +\d+/\d+ +\d+:\d\d")
"""A line of `eto.cli.progress`: stage, finished/total, minutes:seconds."""
SIMULATOR_SECONDS = 30.0
GOODBYE_SECONDS = 15.0


def run(quick: bool) -> Outcome:
    embedded_model()
    found = alternate(
        {
            HELP: lambda: seconds_of("--help", shows="Usage"),
            DOCTOR: lambda: seconds_of("doctor", shows="Java"),
            RUN: seconds_to_progress,
        },
        2 if quick else 5,
    )
    return Outcome(
        title="Start-up of the command line",
        setting="Wall seconds of fresh processes (`python -m eto ...`), from their start to their end, or "
        "for `eto run recipes/quickstart.yaml` to the first line that shows a stage's progress; the "
        "embedded model is in the cache.",
        rows=rows(found, "s"),
        ratios=[
            Ratio(f"{name}, seconds", median(found[name]), TARGETS[name], at_most=True) for name in found
        ],
        same=f"one program, nothing to compare; each of the {len(found[RUN])} killed runs ended with its "
        "workers and JVMs, none was left behind.",
        notes=[
            "Files were read before, so they come from the page cache; the first start after "
            "a boot takes longer."
        ],
    )


def seconds_of(*arguments: str, shows: str) -> float:
    """Wall seconds of `python -m eto ARGUMENTS`. Raises RuntimeError where it fails or lacks `shows`."""
    begun = time.perf_counter()
    done = subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    seconds = time.perf_counter() - begun
    if done.returncode != 0 or shows not in done.stdout:
        raise RuntimeError(
            f"eto {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
        )
    return seconds


def seconds_to_progress() -> float:
    """Wall seconds of a new run to its first progress line; the run is killed and must leave nothing."""
    with TemporaryDirectory() as folder:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command("run", "recipes/quickstart.yaml", f"run_directory={folder}/run"),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        family = [psutil.Process(process.pid)]
        try:
            seconds = wait_for_progress(process) - begun
            family += simulators(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()
            _, alive = psutil.wait_procs(family, timeout=GOODBYE_SECONDS)
            names = [each.name() for each in alive]
            for each in alive:
                each.kill()
    if names:
        raise AssertionError(f"a killed `eto run` left {', '.join(names)} behind")
    return seconds


def wait_for_progress(process: subprocess.Popen) -> float:
    """When the first progress line came. Raises RuntimeError where the process ends before."""
    lines = []
    for line in process.stdout:
        if PROGRESS.match(line):
            return time.perf_counter()
        lines.append(line)
    raise RuntimeError(f"`eto run` ended without progress: {''.join(lines)}")


def simulators(pid: int) -> list[psutil.Process]:
    """All descendants of a run, once a JVM is among them. Raises RuntimeError where none comes."""
    end = time.monotonic() + SIMULATOR_SECONDS
    while time.monotonic() < end:
        family = psutil.Process(pid).children(recursive=True)
        if any("java" in each.name() for each in family):
            return family
        time.sleep(0.1)
    raise RuntimeError(f"no JVM within {SIMULATOR_SECONDS:.0f} s of the first progress line")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "eto", *arguments]


def environment() -> dict[str, str]:
    """This process's, but modules may be kept compiled, as anywhere by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
