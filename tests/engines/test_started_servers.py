"""Servers that are started and watched: a small program in place of vLLM, with real processes.

With vLLM itself: `test_vllm.py`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from eto.engines.opening import Needs, open_engine
from eto.engines.server.engine import ServerEngine
from eto.engines.vllm.process import ServerProcess, clean_environment
from eto.engines.vllm.replica import has_tied_head
from eto.errors import EngineFailure, InputError
from eto.protocols import Completion, Sampling
from eto.settings import RolloutSettings, VllmSettings

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
PROGRAM = [sys.executable, str(HELPERS / "completion_server.py")]
PROMPTS = [[*range(40, 60), n] for n in range(4)]
SAMPLING = Sampling(40)


@pytest.fixture
def other_path(tiny_path: Path, tmp_path: Path) -> Path:
    """Other weights."""
    from tiny import save_tiny

    return save_tiny(tmp_path / "other", initializer_range=0.1)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, said: list[str]) -> Iterator[Any]:
    """Makes engines, which are closed at the end and leave no process."""
    made: list[ServerEngine] = []

    def make(command: list[str] = PROGRAM, **settings: Any) -> ServerEngine:
        variables = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
        vllm = VllmSettings(command=command, environment=variables, **({"retries": 0} | settings))
        rollout = RolloutSettings(engine="vllm", vllm=vllm)
        made.append(open_engine(rollout, Needs(128, "float32", tmp_path, said.append)))
        return made[-1]

    yield make
    for engine in made:
        processes = [process for replica in engine.replicas for process in below(replica.process)]
        engine.wait_closed()
        assert gone(processes)


def below(process: ServerProcess | None) -> list[psutil.Process]:
    """Guard, server and what that started."""
    if process is None:
        return []
    first = psutil.Process(process.pid)
    return [first, *first.children(recursive=True)]


def gone(processes: list[psutil.Process], seconds: float = 10.0) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def ask(engine: ServerEngine, then: Any = None) -> list[Any]:
    """Answers to all prompts at once; `then` is called while they are under way."""

    async def together() -> list[Any]:
        requests = (engine.generate(ids, SAMPLING, session=str(n)) for n, ids in enumerate(PROMPTS))
        under_way = asyncio.gather(*requests)
        if then is not None:
            await asyncio.sleep(0.01)
            then()
        return await under_way

    return asyncio.run(together())


def test_it_starts_takes_weights_and_sleeps(opened, tiny_path, other_path):
    engine = opened()
    assert engine.replicas[0].process is None, "not before there are weights"
    asyncio.run(engine.load(tiny_path))
    before = ask(engine)
    asyncio.run(engine.load(other_path))
    assert engine.replicas[0].generation == 1, "changed in place"
    assert [each.ids for each in ask(engine)] != [each.ids for each in before]
    processes = below(engine.replicas[0].process)
    asyncio.run(engine.sleep())
    assert gone(processes)
    asyncio.run(engine.load(tiny_path))
    assert [each.ids for each in ask(engine)] == [each.ids for each in before]


def test_two_servers_share_the_sessions(opened, tiny_path):
    engine = opened(replicas=2)
    asyncio.run(engine.load(tiny_path))
    assert all(isinstance(each, Completion) for each in ask(engine))
    assert [len(replica.sessions) for replica in engine.replicas] == [2, 2]
    assert len({replica.url for replica in engine.replicas}) == 2


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_server_lost_in_the_midst_owes_nothing(how, opened, tiny_path, said):
    """Killed it is dead, stopped it hangs: it is started again and asked again."""
    engine = opened(seconds=2.0)
    asyncio.run(engine.load(tiny_path))
    undisturbed = ask(engine)
    processes = below(engine.replicas[0].process)
    server = processes[1]
    disturbed = ask(engine, server.kill if how == "killed" else server.suspend)
    assert [each.ids for each in disturbed] == [each.ids for each in undisturbed]
    assert engine.replicas[0].generation == 2 and "vLLM is started again" in said[-1]
    assert gone(processes)


def test_a_server_that_fails_again_and_again_ends_the_run(opened, tiny_path, tmp_path):
    engine = opened(restarts=1)
    asyncio.run(engine.load(tiny_path))
    engine.replicas[0].start.environment["TOY_BROKEN"] = "1"
    below(engine.replicas[0].process)[1].kill()
    with pytest.raises(EngineFailure, match=r"the toy is broken(.|\n)*vllm-0\.log"):
        ask(engine)


def test_a_server_that_ends_at_once_shows_its_log(opened, tiny_path):
    engine = opened([sys.executable, "-c", "import sys; sys.exit('no such device')"])
    with pytest.raises(EngineFailure, match=r"no such device(.|\n)*vllm-0\.log"):
        asyncio.run(engine.load(tiny_path))


def test_a_server_that_is_never_ready_is_ended(opened, tiny_path):
    engine = opened([sys.executable, "-c", "import time; time.sleep(1000)"], start_seconds=1.0)
    with pytest.raises(EngineFailure, match="was not ready within 1 seconds"):
        asyncio.run(engine.load(tiny_path))
    assert engine.replicas[0].process is None


def test_a_command_that_is_not_there(opened):
    with pytest.raises(InputError, match=r"rollout\.vllm\.command"):
        opened(["/nowhere/vllm", "serve"])


def test_a_directory_without_weights(opened, tmp_path):
    with pytest.raises(InputError, match="holds no model"):
        asyncio.run(opened().load(tmp_path))


def test_a_tied_head_is_seen_in_the_weights(tiny_path, tmp_path):
    from tiny import save_tiny

    assert not has_tied_head(tiny_path)
    tied = save_tiny(tmp_path, tie_word_embeddings=True)
    assert has_tied_head(tied)
    (tied / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        has_tied_head(tied)


# -- the guard -----------------------------------------------------------------------------------

STARTS_ANOTHER = "import subprocess, time; subprocess.Popen(['sleep', '1000']); print('up', flush=True); "
LEAVES_A_FILE = "import tempfile; tempfile.mkstemp(prefix='left'); "
DRIVER = """
import sys, time
from pathlib import Path
from eto.engines.vllm.process import ServerProcess, clean_environment
process = ServerProcess(
    [sys.executable, "-c", sys.argv[2]], clean_environment({}), Path(sys.argv[1]), grace=1.0
)
while "up" not in Path(sys.argv[1]).read_text(): time.sleep(0.05)
print(process.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("ignores", [False, True])
def test_nothing_is_left_once_the_driver_was_killed(ignores, tmp_path, monkeypatch):
    """With -9: it can do nothing itself. Also of a server that ignores being asked, and no temporary file."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    program = (deaf if ignores else "") + LEAVES_A_FILE + STARTS_ANOTHER + "time.sleep(1000)"
    arguments = [sys.executable, "-c", DRIVER, str(tmp_path / "log"), program]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        first = psutil.Process(int(driver.stdout.readline()))
        processes = [first, *first.children(recursive=True)]
        assert len(processes) == 3 and list(tmp_path.rglob("left*"))
        driver.kill()
    assert gone(processes)
    assert not list(tmp_path.rglob("left*"))


@pytest.mark.parametrize("victim", [0, 1], ids=["guard", "server"])
def test_nothing_is_left_once_one_of_them_was_killed(victim, tmp_path):
    """Where it is the guard, the kernel asks the server to end, which ends its own as vLLM does."""
    ends = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (other.kill(), sys.exit())); "
    program = STARTS_ANOTHER.replace("subprocess.Popen", "other = subprocess.Popen") + ends
    log = tmp_path / "log"
    started = ServerProcess([sys.executable, "-c", program + "time.sleep(1000)"], clean_environment({}), log)
    try:
        while "up" not in log.read_text():
            time.sleep(0.02)
        time.sleep(0.2)
        processes = below(started)
        assert len(processes) == 3
        processes[victim].kill()
        started._guard.wait(20)
        assert gone(processes)
    finally:
        started.end()
    started.end()
