"""vLLM's own environment, with a small wheel in place of it: built once, whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from eto.engines.vllm.installation import COMPLETE, installed_python, place_of
from eto.errors import MissingRequirement


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    path = tmp_path / "small-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("small.py", "answer = 42\n")
        file.writestr("small-1.0.dist-info/METADATA", about)
        file.writestr("small-1.0.dist-info/WHEEL", kind)
        file.writestr("small-1.0.dist-info/RECORD", "")
    return str(path)


def test_it_is_built_once_after_a_build_that_was_killed(wheel, tmp_path):
    """Two ask at the same time; what the killed one left is gone."""
    cache, said = tmp_path / "cache", []
    place = place_of([wheel], ["absent"], cache)
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "left-over").touch()
    found: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(installed_python([wheel], ["absent"], say=said.append, cache=cache))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [place / "bin" / "python"] * 2 and len(said) == 1
    assert not (place / "bin" / "left-over").exists()
    shown = subprocess.check_output([found[0], "-c", "import small; print(small.answer)"], text=True)
    assert shown == "42\n"
    assert "small" in (place / COMPLETE).read_text()


def test_pins_that_cannot_be_installed_leave_nothing(tmp_path):
    cache, missing = tmp_path / "cache", str(tmp_path / "absent-1.0-py3-none-any.whl")
    with pytest.raises(MissingRequirement, match=r"rollout\.vllm\.packages(.|\n)*absent"):
        installed_python([missing], say=lambda text: None, cache=cache)
    assert not place_of([missing], cache=cache).exists()


def test_other_pins_have_another_place(tmp_path):
    places = {
        place_of(["a==1"], [], tmp_path),
        place_of(["a==2"], [], tmp_path),
        place_of(["a==1"], ["b"], tmp_path),
        place_of(["a==1", "b"], [], tmp_path),
    }
    assert len(places) == 4
    assert place_of(["b", "a==1"], [], tmp_path) == place_of(["a==1", "b"], [], tmp_path)


INSTALLING = """
import sys
from pathlib import Path
from eto.engines.vllm import installation
note = f"open({sys.argv[1]!r}, 'w').write(str(os.getpid()))"
installation.INSTALL = ("-c", f"import os, time; {note}; time.sleep(600)")
installation.installed_python(["x"], say=lambda text: None, cache=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_pip_ends_with_whoever_asked_for_it(how, tmp_path):
    noted = tmp_path / "pid"
    asking = subprocess.Popen([sys.executable, "-c", INSTALLING, str(noted), str(tmp_path / "cache")])
    until = time.monotonic() + 60
    while not (noted.exists() and noted.read_text()):
        assert time.monotonic() < until and asking.poll() is None
        time.sleep(0.1)
    pip = psutil.Process(int(noted.read_text()))
    asking.send_signal(how)
    asking.wait(30)
    pip.wait(30)
    left = [path.name for path in (tmp_path / "cache" / "engines").iterdir() if path.is_dir()]
    assert bool(left) is (how == signal.SIGKILL)  # removed by the next start then
