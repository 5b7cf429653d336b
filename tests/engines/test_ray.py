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
from completion_server import serving
from corridor import Corridor
from playing import how
from token_server import TokenServer

from eto.engines.actor import Actor
from eto.engines.opening import Needs, open_engine, simulator_start
from eto.engines.ray.cluster import Membership
from eto.engines.served import TEXT, differs
from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import EngineFailure, InputError
from eto.protocols import Sampling
from eto.rollout.rollouts import rollouts, stream_rollouts
from eto.settings import EnvironmentLimits, RaySettings, RolloutSettings, ServerSettings
from eto.tokens.prefix_tree import build_tree
from eto.training.learner import Learner, load_learner
from eto.types import Trajectory

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'eto-agent[ray]'")
pytestmark = pytest.mark.timeout(400)

MB = 2**20
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * MB}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Its head has no processors: nothing but the driver's objects is there."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    quick |= {"health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "object_store_memory": 100 * MB, "include_dashboard": False}
    # Nor does Ray end actors where others have taken the machine's memory.
    head["_system_config"] = quick | {"memory_monitor_refresh_ms": 0}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def settings_for(cluster: Any, server: ServerSettings | None = None, **values: Any) -> RolloutSettings:
    given = {"address": cluster.address, "replicas": 2, "start_seconds": 60.0, "seconds": 60.0} | values
    return RolloutSettings(
        engine="ray", ray=RaySettings(**given), server=server, slots=8, max_action_tokens=8, retries=0
    )


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


def check_weights_reach_each_node(engine: Any, nodes: list[Any], *paths: Path) -> None:
    """They act, and Ray has carried them once to each node."""
    contents = set()
    for path in paths:
        before = engine.version
        learner = load_learner(path, dtype="float32")
        asyncio.run(engine.load(path))
        answers = asyncio.run(engine.served(probe(learner)))
        assert len(answers) == len(engine.replicas) and engine.version == before + 1
        assert all(differs(served, log_probs(learner, served.ids), "float32") is None for served in answers)
        [weights] = {replica.weights for replica in engine.replicas}
        contents.add(weights.content)
        places = ray.experimental.get_object_locations([reference for _, reference in weights.files])
        assert all({node.node_id for node in nodes} <= {*place["node_ids"]} for place in places.values())
    assert len(contents) == len(paths)


def test_a_node_killed_in_mid_exploration_changes_no_trajectory(cluster, trained_path, tiny_path):
    """It takes a replica and a simulator's worker with it."""
    learner = load_learner(trained_path, dtype="float32")
    suite, said = Corridor(rooms=6), []
    tasks = suite.tasks("train")
    calm = rollouts(learner.actor("agent"), suite, tasks, **how(slots=8, max_action_tokens=8, workers=0))
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    cluster.wait_for_nodes()
    settings = settings_for(cluster)
    limits = EnvironmentLimits(workers=3)
    with (
        opened(settings, learner, trained_path, said) as engine,
        EnvironmentPool.within(suite, limits, simulator_start(settings)) as pool,
    ):
        homes = {replica.met.node for replica in engine.replicas}
        assert homes == {node.node_id for node in nodes}, "each node has a replica"
        check_weights_reach_each_node(engine, nodes, tiny_path, trained_path)
        actor = Actor(engine, learner.renderer, "agent")
        played = []
        for trajectory in stream_rollouts(actor, suite, tasks, settings=settings, limits=limits, pool=pool):
            played.append(trajectory)
            if len(played) == 10:
                lost = next(node for node in nodes if node.node_id in {w.node for w in pool._workers})
                lose(cluster, lost)
    assert any("is started again" in each for each in said)
    order = [task.id for task in tasks]
    played.sort(key=lambda t: order.index(t.task.id))
    assert plain(played) == plain(calm)
    nodes.remove(lost)
    cluster.remove_node(nodes[0])


def kill(replica: Any) -> None:
    os.kill(replica.met.pid, signal.SIGKILL)


@pytest.mark.long
def test_a_replica_is_started_again_and_given_up_after_too_many_times(cluster, trained_path):
    """A request that is under way is answered by the new one."""
    learner, said = load_learner(trained_path, dtype="float32"), []
    node = cluster.add_node(**NODE)
    settings = settings_for(cluster, replicas=1, restarts=1)
    ids, sampling = probe(learner)[:40], Sampling(400)
    with opened(settings, learner, trained_path, said) as engine:
        [replica] = engine.replicas

        async def killed() -> Any:
            asking = asyncio.create_task(engine.generate(ids, sampling, session="s"))
            await asyncio.sleep(0.02)
            assert not asking.done()
            kill(replica)
            return await asking

        before = asyncio.run(engine.generate(ids, sampling))
        assert len(before.ids) > 30, "long enough to be hit"
        assert asyncio.run(killed()).ids == before.ids
        assert len(said) == 1
        replica._ray = replica._ray.replace(restarts=0)
        with pytest.raises(EngineFailure, match="replica 0 was lost once") as failure:
            asyncio.run(killed())
        assert "ray status" in failure.value.hint
        # Weights that come later find it started again.
        asyncio.run(engine.load(trained_path))
        assert asyncio.run(engine.generate(ids, sampling)).ids == before.ids
    cluster.remove_node(node)


def test_a_replica_that_acts_with_a_server(cluster, trained_path, tiny_path):
    """Which reads the weights where they landed on its node."""
    node = cluster.add_node(**NODE)
    learner, other = load_learner(trained_path, dtype="float32"), load_learner(tiny_path, dtype="float32")
    ids = probe(learner)[:40]
    with serving(TokenServer(tiny_path, context=512)) as server:
        at = ServerSettings(urls=[server.url], seconds=20.0)
        settings = settings_for(cluster, at, replicas=1, engine="server")
        with opened(settings, learner, trained_path, []) as engine:
            [first] = asyncio.run(engine.served(probe(learner)))
            assert differs(first, log_probs(learner, first.ids), "float32") is None
            assert first.url == f"ray replica 0 {server.url}"
            here = asyncio.run(learner.actor("agent").engine.generate(ids, Sampling(12)))
            assert asyncio.run(engine.generate(ids, Sampling(12))).ids == here.ids
            asyncio.run(engine.load(tiny_path))
            [second] = asyncio.run(engine.served(probe(learner)))
            assert differs(second, log_probs(other, second.ids), "float32") is None
        with pytest.raises(InputError, match="serves no model 'large'") as error:
            wrong = settings.replace(server=at.replace(model="large"))
            with opened(wrong, learner, trained_path, []):
                pass
        assert "rollout.server.model" in error.value.hint
    cluster.remove_node(node)


def test_a_cluster_without_room_is_one_message(cluster, trained_path):
    learner = load_learner(trained_path, dtype="float32")
    settings = settings_for(cluster, start_seconds=1.0)
    says = (
        "does not start: no answer within 1 s; a replica takes 1 CPU and 0 GPUs of one node, and the cluster"
    )
    with pytest.raises(EngineFailure, match=says), opened(settings, learner, trained_path, []):
        pass


def test_another_version_of_ray_on_the_cluster(cluster, monkeypatch):
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    with pytest.raises(InputError, match=r"ersion mismatch(.|\n)*2\.0\.0") as error:
        Membership(RaySettings(address=cluster.address))
    assert "same versions of Python and ray" in error.value.hint and not ray.is_initialized()
    monkeypatch.undo()
    Membership(RaySettings(address=cluster.address)).leave()


def test_a_process_uses_one_cluster(cluster):
    membership = Membership(RaySettings(address=cluster.address))
    with pytest.raises(InputError, match="uses the cluster at"):
        Membership(RaySettings())
    membership.leave()
    membership.leave()
    assert not ray.is_initialized()
