"""Replicas and simulators on a real Ray cluster of this machine, two nodes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from corridor import Corridor
from playing import how

from eto.engines.actor import Actor
from eto.engines.opening import Needs, open_engine, simulator_start
from eto.engines.served import TEXT, differs
from eto.environments.hosting.pool import EnvironmentPool
from eto.rollout.rollouts import rollouts, stream_rollouts
from eto.settings import EnvironmentLimits, RaySettings, RolloutSettings
from eto.tokens.prefix_tree import build_tree
from eto.training.learner import Learner, load_learner
from eto.types import Trajectory

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'eto-agent[ray]'")
pytestmark = pytest.mark.timeout(180)

MB = 2**20
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * MB}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Its head has no processors: nothing but the driver's objects is there."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "object_store_memory": 100 * MB, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def settings_for(cluster: Any, **values: Any) -> RolloutSettings:
    given = {"address": cluster.address, "replicas": 2, "start_seconds": 60.0, "seconds": 60.0} | values
    return RolloutSettings(engine="ray", ray=RaySettings(**given), slots=8, max_action_tokens=8)


@contextmanager
def opened(settings: RolloutSettings, learner: Learner, path: Path, said: list[str]) -> Iterator[Any]:
    needs = Needs(learner.max_context, "float32", path, said.append)
    engine = open_engine(settings, needs)
    try:
        asyncio.run(engine.greet(probe(learner)))
        asyncio.run(engine.load(path))
        yield engine
    finally:
        engine.wait_closed()


def probe(learner: Learner) -> list[int]:
    return list(learner.tokenizer(TEXT * 4)["input_ids"][:300])


def log_probs(learner: Learner, ids: tuple[int, ...]) -> list[float]:
    [[scores]] = learner.score([build_tree([(ids, [-1] + [0] * (len(ids) - 1))])])
    return [float(score) for score in scores]


def plain(played: list[Trajectory]) -> list[Trajectory]:
    """Without what rounding decides."""
    return [replace(t, turns=tuple(replace(turn, log_probs=()) for turn in t.turns)) for t in played]


def lose(cluster: Any, node: Any) -> None:
    """As if the power of its machine had failed: all that runs on the node ends."""
    processes = [psutil.Process(info.process.pid) for each in node.all_processes.values() for info in each]
    processes += [child for process in processes for child in process.children(recursive=True)]
    cluster.remove_node(node, allow_graceful=False)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_node_killed_in_mid_exploration_changes_no_trajectory(cluster, trained_path):
    """It takes a replica and a simulator's worker with it."""
    learner = load_learner(trained_path, dtype="float32")
    suite, said = Corridor(rooms=6), []
    tasks = suite.tasks("train")
    calm = rollouts(learner.actor("agent"), suite, tasks, **how(slots=8, max_action_tokens=8, workers=0))
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    cluster.wait_for_nodes()
    settings = settings_for(cluster)
    limits = EnvironmentLimits(workers=2)
    with (
        opened(settings, learner, trained_path, said) as engine,
        EnvironmentPool.within(suite, limits, simulator_start(settings)) as pool,
    ):
        homes = {replica.met.node for replica in engine.replicas}
        assert homes == {node.node_id for node in nodes}, "each node has a replica"
        for served in asyncio.run(engine.served(probe(learner))):
            assert differs(served, log_probs(learner, served.ids), "float32") is None
        actor = Actor(engine, learner.renderer, "agent")
        played = []
        for trajectory in stream_rollouts(actor, suite, tasks, settings=settings, limits=limits, pool=pool):
            played.append(trajectory)
            if len(played) == 10:
                lose(cluster, nodes[1])
    assert any("is started again" in each for each in said)
    order = [task.id for task in tasks]
    played.sort(key=lambda t: order.index(t.task.id))
    assert plain(played) == plain(calm)
    cluster.remove_node(nodes[0])
