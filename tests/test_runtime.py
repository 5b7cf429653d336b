"""Threads and waiting are settled before torch loads; what the user set stays."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eto import runtime

NAMES = (*runtime.WAITING, *runtime.THREAD_VARIABLES, *runtime.QUIET_DEFAULTS)


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
    assert out["TOKENIZERS_PARALLELISM"] == "false"


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
