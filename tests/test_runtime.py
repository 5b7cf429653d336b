"""Threads and waiting are settled before torch loads; what the user set stays."""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from eto import runtime
from eto.models.private_interfaces import cpu_has_bfloat16

NAMES = (*runtime.WAITING, *runtime.CACHES, *runtime.THREAD_VARIABLES, *runtime.QUIET)


def run(code: str, **variables: str) -> dict:
    """What `code` leaves in `out`, from a fresh process without any of our variables."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    program = f"import json, os\nout = {{}}\n{code}\nprint(json.dumps(out))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


CONFIGURE = "from eto.runtime import configure_threads\nout['warning'] = configure_threads({})\n"
SHOW = "out.update(os.environ)\n"


def test_defaults_are_passive_waiting_and_one_thread_a_core():
    out = run(CONFIGURE.format("") + SHOW)
    assert out["warning"] is None
    assert (out["OMP_WAIT_POLICY"], out["KMP_BLOCKTIME"]) == ("PASSIVE", "0")
    assert out["OMP_NUM_THREADS"] == out["MKL_NUM_THREADS"] == str(runtime.available_cores())


def test_what_the_user_set_stays():
    out = run(CONFIGURE.format("") + SHOW, OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS="3")
    assert (out["OMP_WAIT_POLICY"], out["OMP_NUM_THREADS"]) == ("ACTIVE", "3")


@pytest.mark.parametrize("name", runtime.THREAD_VARIABLES)
def test_one_number_of_threads_goes_for_both_libraries(name):
    code = CONFIGURE.format("") + "import torch\nout['threads'] = torch.get_num_threads()"
    assert run(code, **{name: "1"})["threads"] == 1


def test_an_explicit_number_wins():
    assert run(CONFIGURE.format(5) + SHOW, OMP_NUM_THREADS="3")["OMP_NUM_THREADS"] == "5"


def test_torch_takes_the_settings():
    code = CONFIGURE.format(1) + "import torch\nout['threads'] = torch.get_num_threads()"
    assert run(code) == {"warning": None, "threads": 1}


def test_torch_first_is_warned_of_and_nothing_pretended():
    code = "import torch\n" + CONFIGURE.format(1)
    code += "out['threads'] = torch.get_num_threads()\nout['policy'] = os.environ.get('OMP_WAIT_POLICY')"
    out = run(code)
    assert "import eto first" in out["warning"]
    assert out["threads"] == 1
    assert out["policy"] is None


def test_importing_eto_sets_threads_waiting_and_caches_alone():
    code = "before = dict(os.environ)\nimport eto\n"
    code += "out['new'] = sorted(name for name in os.environ if os.environ[name] != before.get(name))"
    assert run(code)["new"] == sorted((*runtime.WAITING, *runtime.CACHES, *runtime.THREAD_VARIABLES))


def test_the_commands_have_the_libraries_quiet_unless_the_user_wants_them_loud():
    code = "import sys, eto.cli\nsys.argv = ['eto', '--version']\n"
    code += "try:\n    eto.cli.main()\nexcept SystemExit:\n    out.update(os.environ)"
    out = run(code, TRANSFORMERS_VERBOSITY="info")
    assert out["TRANSFORMERS_VERBOSITY"] == "info"
    assert out["HF_HUB_DISABLE_PROGRESS_BARS"] == out["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(("first", "told"), [("torch, eto", True), ("eto, torch", False), ("eto", False)])
def test_importing_eto_says_if_torch_was_there_first(first, told):
    code = "import warnings\nwith warnings.catch_warnings(record=True) as caught:\n"
    code += f"    warnings.simplefilter('always')\n    import {first}\n"
    code += "told = [each for each in caught if 'eto' in str(each.message)]\n"
    code += "out['told'] = [[str(each.message), each.filename] for each in told]"
    found = run(code)["told"]
    assert len(found) == told
    if told:
        assert "import eto first" in found[0][0] and found[0][1] == "<string>"


def test_no_threads_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        runtime.configure_threads(0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity on this system")
def test_cores_follow_the_affinity():
    code = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from eto.runtime import available_cores\nout['cores'] = available_cores()"
    assert run(code) == {"cores": 1}


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("nonsense", None)]
)
def test_container_quota(tmp_path: Path, text: str, cores: int | None):
    path = tmp_path / "cpu.max"
    path.write_text(text + "\n")
    assert runtime._quota(path) == cores


def test_quota_of_a_system_without_control_groups(tmp_path: Path):
    assert runtime._quota(tmp_path / "none") is None


def test_only_the_standard_library():
    names = set()
    for node in ast.walk(ast.parse(Path(runtime.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names <= set(sys.stdlib_module_names)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators give memory back themselves")
def test_memory_is_given_back():
    """Half of what was freed lies between what is kept, so that the allocator keeps it until it is asked."""
    code = """
import os, psutil
from eto.runtime import release_memory
resident = lambda: psutil.Process().memory_info().rss
blocks = [bytearray(100_000) for _ in range(4_000)]
circle = [blocks[:3_999]]
circle.append(circle)
blocks = [blocks[3_999]]
del circle
before = resident()
release_memory()
out = {"given": (before - resident()) / 1e6}
"""
    assert run(code)["given"] > 300


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no products in bfloat16 to keep")
def test_products_of_many_lengths_take_little():
    """Some 1,200 products of a number of rows each: kept by torch and by oneDNN they would take 0.6 GB."""
    code = """
import eto, psutil, torch
resident = lambda: psutil.Process().memory_info().rss
weights = [torch.ones(size, 64, dtype=torch.bfloat16) for size in (64, 128, 192, 256)]
inputs = torch.ones(300, 64, dtype=torch.bfloat16)
with torch.inference_mode():
    [torch.nn.functional.linear(inputs[:1], each) for each in weights]
    before = resident()
    [torch.nn.functional.linear(inputs[:rows], each) for rows in range(2, 301) for each in weights]
out = {"taken": (resident() - before) / 1e6}
"""
    assert run(code)["taken"] < 250
