"""A run on a Ray cluster, killed in mid-exploration and started again: the same as one in this process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from coin_game import environment_of_child, write_recipe
from test_kill import count, wait_for_end
from test_servers import SHORT, episodes

pytest.importorskip("ray", reason="ray is not installed: pip install 'eto-agent[ray]'")
pytestmark = pytest.mark.timeout(600)

MB = 2**20


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster that outlives its drivers."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head: dict[str, Any] = {"num_cpus": 4, "object_store_memory": 100 * MB, "include_dashboard": False}
    # Ray would end actors where others have taken the machine's memory.
    head["_system_config"] = {"memory_monitor_refresh_ms": 0}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster.address
    cluster.shutdown()


def recipe_of(path: Path, model: Path, run: Path, **rollout: Any) -> Path:
    return write_recipe(path, model, run, **SHORT, rollout={"slots": 1, "max_action_tokens": 8} | rollout)


def actors() -> list[psutil.Process]:
    """Replicas and simulators of this machine's clusters, with what the latter have started."""
    named = [
        p for p in psutil.process_iter(["cmdline"]) if "".join(p.info["cmdline"] or []).startswith("ray::")
    ]
    ours = [p for p in named if p.info["cmdline"][0].startswith(("ray::ActingNode", "ray::SimulatorNode"))]
    return [*ours, *(child for process in ours for child in process.children(recursive=True))]


@pytest.mark.long
def test_a_run_on_ray_killed_and_resumed_is_the_run_in_this_process(model, tmp_path, command, address):
    command.succeeds("run", recipe_of(tmp_path / "a.yaml", model, tmp_path / "here"))
    on_ray = {"engine": "ray", "ray": {"address": address}}
    recipe, run = recipe_of(tmp_path / "b.yaml", model, tmp_path / "there", **on_ray), tmp_path / "there"
    log = tmp_path / "log"
    before = {process.pid for process in actors()}
    with log.open("wb") as out:
        line = [sys.executable, "-m", "eto", "run", str(recipe)]
        driver = subprocess.Popen(
            line, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment_of_child()
        )
    deadline = time.monotonic() + 180
    while count(run, "explore/1") < 3:
        assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)
    started = [process for process in actors() if process.pid not in before]
    driver.kill()
    driver.wait()
    assert len(started) >= 3, "a replica, a simulator's actor and its worker process"
    assert not wait_for_end(started, 30.0), "the cluster ends what a lost driver had on it"
    kept = count(run, "explore/1")
    assert 3 <= kept < 24
    command.succeeds("run", recipe)
    here, there = episodes(tmp_path / "here"), episodes(run)
    assert here == there and len(here) > 24
