"""What Ray cannot be asked for, and what its cluster lacks: one message each. No cluster is started."""

from __future__ import annotations

import errno
import hashlib
import re
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eto.engines.ray.cluster import Membership
from eto.engines.ray.greeting import Hello, check_versions, versions
from eto.engines.ray.weights import Weights, landed, sent
from eto.errors import EngineFailure, InputError, MissingRequirement
from eto.settings import RaySettings, RolloutSettings

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'eto-agent[ray]'")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no cluster answers at 127.0.0.1:1"),
        ("cluster", "is not host:port"),
        ("ray://127.0.0.1:10001", "Ray Client"),
    ],
)
def test_an_address_that_cannot_be_used(address, says):
    with pytest.raises(InputError, match=says) as error:
        Membership(RaySettings(address=address))
    assert error.value.where == "rollout.ray.address" and error.value.hint


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["a page", "nothing"])
def test_an_address_where_something_else_listens(answer, monkeypatch):
    """Ray itself would try for minutes, silently."""
    monkeypatch.setattr("eto.engines.ray.cluster.REACH_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(1000)
                taken.sendall(answer)
                taken.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(InputError, match=address) as error:
            Membership(RaySettings(address=address))
        thread.join()
    assert ("is not the head of a cluster" if answer else "timed out") in str(error.value)
    assert error.value.where == "rollout.ray.address" and "ray start --head" in error.value.hint
    assert not ray.is_initialized()


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingRequirement, match="ray is not installed") as error:
        Membership(RaySettings())
    assert "eto-agent[ray]" in error.value.hint


@pytest.mark.parametrize("values", [{"gpus_each": 1.5}, {"gpus_each": 0.00001}, {"cpus_each": 0.00001}])
def test_parts_that_ray_cannot_reserve(values):
    [name] = values
    with pytest.raises(InputError) as error:
        RaySettings(**values)
    assert error.value.where == f"RaySettings: {name}" and "0.0001" in error.value.problem


def test_a_cluster_that_is_started_here_has_room_for_all_replicas(monkeypatch):
    started: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda *_, **options: started.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    Membership(RaySettings(replicas=5, cpus_each=0.5)).leave()
    assert started["num_cpus"] == 3


@pytest.mark.parametrize("kind", [Exception, RuntimeError, OSError])
def test_a_cluster_that_does_not_start_here(kind, monkeypatch):
    def late(*_, **__):
        raise kind("The current node timed out during startup.")

    ended = []
    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    with pytest.raises(EngineFailure, match="no cluster could be started here: The current node timed out"):
        Membership(RaySettings())
    assert ended


def test_too_few_gpus_for_a_cluster_that_is_started_here(monkeypatch):
    monkeypatch.setattr("eto.engines.ray.cluster.gpus", lambda: [{"count": 2}])
    with pytest.raises(
        MissingRequirement, match=r"5 replicas with 0.5 GPUs each need more than 2 GPUs"
    ) as error:
        Membership(RaySettings(replicas=5, gpus_each=0.5))
    assert error.value.where == "rollout.ray.gpus_each" and "rollout.ray.replicas" in error.value.hint


def test_weights_without_room_are_one_message(monkeypatch, tmp_path):
    def full(_: object) -> None:
        raise ray.exceptions.OutOfDiskError("no space left\nin /tmp/ray")

    (tmp_path / "model.safetensors").write_bytes(b"abc")
    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(EngineFailure, match="no room for the weights") as error:
        sent(tmp_path, shared=False)
    assert "object_store_mb" in error.value.hint


def test_a_full_disk_of_a_node_is_one_message(monkeypatch, tmp_path):
    def full(self: Path, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(ray, "get", lambda _: b"abc")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MissingRequirement, match="full") as error:
        landed(Weights(tmp_path, "", (("model.safetensors", None),)), tmp_path)
    assert "model.safetensors" in str(error.value)


def test_other_versions_on_a_node_are_named():
    ours = versions()
    check_versions(Hello("id", "node-7", 1, dict(ours)), ours)
    with pytest.raises(InputError, match=f"node-7 has torch 1.0, not {re.escape(ours['torch'])}"):
        check_versions(Hello("id", "node-7", 1, ours | {"torch": "1.0"}), ours)


def test_shared_weights_are_told_apart_by_their_content(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    (tmp_path / "config.json").write_text("{}")
    weights = sent(tmp_path, shared=True)
    each = {"config.json": b"{}", "model.safetensors": b"abc"}
    lines = "".join(f"{name}\0{hashlib.sha256(text).hexdigest()}\0" for name, text in each.items())
    assert weights.content == hashlib.sha256(lines.encode()).hexdigest()
    assert landed(weights, tmp_path / "unused") == tmp_path
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    with pytest.raises(EngineFailure, match="reads other files"):
        landed(weights, tmp_path / "unused")
    with pytest.raises(EngineFailure, match="reads other files"):
        landed(replace(weights, directory=tmp_path / "nowhere"), tmp_path)


def test_a_replica_that_acts_with_a_server_needs_one():
    with pytest.raises(InputError, match="urls names none"):
        RolloutSettings(engine="ray", ray=RaySettings(engine="server"))
