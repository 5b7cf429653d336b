"""Who an actor on the cluster is, and whether it computes with the same packages."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from eto.engines.ray.cluster import WHERE
from eto.errors import InputError

SAME = "install the same versions here and on every node"
PACKAGES = ("eto-agent", "torch", "transformers")
"""Their versions decide what an agent writes."""


def versions() -> dict[str, str]:
    """Those of `PACKAGES` here."""
    return {name: metadata.version(name) for name in PACKAGES}


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a new actor is."""

    node: str
    """Ray's id of its node."""
    host: str
    pid: int
    versions: dict[str, str]


def hello() -> Hello:
    """That of this process."""
    import ray

    return Hello(ray.get_runtime_context().get_node_id(), socket.gethostname(), os.getpid(), versions())


def check_versions(met: Hello, ours: Mapping[str, str]) -> None:
    """Raises `InputError` where a node has other versions of what decides results."""
    differ = [f"{name} {met.versions.get(name)}, not {ours[name]}" for name in ours]
    differ = [each for each, name in zip(differ, ours, strict=True) if met.versions.get(name) != ours[name]]
    if differ:
        raise InputError(f"node {met.host} has {', '.join(differ)}", where=WHERE, hint=SAME)
