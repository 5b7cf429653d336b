"""What the manifest says of the machine, and what a report makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from eto import machine
from eto.machine import describe_machine, gpus, hardware_line, processor

CPU = {"cpus": 2, "memory_gb": 25.3, "processor": "AMD EPYC"}


def test_the_description_is_json_and_names_processor_and_gpus():
    found = json.loads(json.dumps(describe_machine()))
    assert found["processor"] and "cpu_features" in found
    assert isinstance(found["gpus"], list)
    assert found["versions"].keys() >= {"python", "torch", "transformers"}


@pytest.mark.skipif(sys.platform != "linux", reason="device files are Linux's")
def test_without_a_device_torch_is_not_loaded():
    code = "import sys, eto.machine as m; m._GPU_DEVICES = (); m.describe_machine(); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "model name\t: AMD EPYC 9B14\nflags\t: fpu avx2 avx512f avx512_bf16\n",
            ("AMD EPYC 9B14", ["avx2", "avx512f", "avx512_bf16"]),
        ),
        ("model name : Xeon\nflags : amx_bf16 amx_tile avx2\n", ("Xeon", ["avx2", "amx_bf16"])),
        ("Features : fp asimd sve bf16\n", (None, ["asimd", "sve", "bf16"])),
    ],
)
def test_a_processor_is_read_from_the_system(tmp_path, lines, expected):
    (tmp_path / "cpuinfo").write_text(lines, encoding="utf-8")
    name, features = processor(tmp_path / "cpuinfo")
    assert features == expected[1] and name and expected[0] in (None, name)


def test_a_system_that_does_not_tell(tmp_path):
    assert processor(tmp_path / "nothing")[1] is None


def accelerators(monkeypatch, kind, properties):
    """As torch on a machine with these devices answers."""
    monkeypatch.setattr(machine, "_GPU_DEVICES", ("/",))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: SimpleNamespace(type=kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(properties) or 1)
    if properties:
        monkeypatch.setattr(getattr(torch, kind), "get_device_properties", lambda index: properties[index])


def test_equal_gpus_are_counted(monkeypatch):
    h100 = SimpleNamespace(name="NVIDIA H100", total_memory=85_000_000_000)
    l4 = SimpleNamespace(name="NVIDIA L4", total_memory=24_000_000_000)
    accelerators(monkeypatch, "cuda", [h100, l4, h100])
    assert gpus() == [
        {"name": "NVIDIA H100", "memory_gb": 85.0, "count": 2},
        {"name": "NVIDIA L4", "memory_gb": 24.0, "count": 1},
    ]
    line = hardware_line({**CPU, "cpu_features": [], "gpus": gpus()})
    assert line.endswith("25.3 GB, 2 × NVIDIA H100 with 85 GB, NVIDIA L4 with 24 GB")


def test_an_accelerator_without_properties(monkeypatch):
    accelerators(monkeypatch, "mps", [])
    [found] = gpus()
    assert found["name"].endswith("mps") and found["memory_gb"] is None


@pytest.mark.parametrize(
    ("recorded", "line"),
    [
        (
            {"gpus": [], "cpu_features": ["avx2", "avx512_bf16"]},
            "2 CPUs (AMD EPYC, avx512_bf16), 25.3 GB, no GPU",
        ),
        ({"gpus": [], "cpu_features": ["avx2"]}, "2 CPUs (AMD EPYC, no bf16 instructions), 25.3 GB, no GPU"),
        ({"gpus": None, "cpu_features": None}, "2 CPUs, 25.3 GB"),
        ({}, "2 CPUs, 25.3 GB"),
    ],
)
def test_a_report_tells_what_the_manifest_has(recorded, line):
    assert hardware_line(CPU | recorded) == line
