"""Deadlines, deaths and bookkeeping of the pool, on a suite that misbehaves on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from counting import Counting
from playing import how

from eto.engines.scripted import scripted_actor
from eto.environments.hosting.host import NoExpert
from eto.environments.hosting.pool import EnvironmentPool
from eto.environments.hosting.process_memory import equal_share_mb, tree_mb
from eto.errors import EnvironmentFailure, InputError
from eto.rollout.experts import collect_experts, stream_experts
from eto.rollout.rollouts import rollouts

HERE = str(Path(__file__).resolve().parents[2] / "helpers")


def wait_for(pool, count, seconds=20.0):
    """The next `count` results, by slot."""
    results, end = {}, time.monotonic() + seconds
    while len(results) < count:
        assert time.monotonic() < end, f"only {results}"
        for result in pool.poll(0.5):
            assert result.slot not in results, "two results for one submit"
            results[result.slot] = result
    return results


def gone(pid, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("workers", [0, 2])
def test_episodes_run_to_their_end(workers):
    suite = Counting()
    tasks = suite.tasks("train")
    with EnvironmentPool(suite, workers) as pool:
        assert pool.poll(0) == []
        for slot, task in enumerate(tasks):
            pool.reset(slot, task)
        started = wait_for(pool, 3)
        assert [started[slot].observation.split(".")[0] for slot in range(3)] == [
            "Count to 1",
            "Count to 2",
            "Count to 3",
        ]
        for slot in range(3):
            pool.step(slot, "up")
        steps = {slot: result.step for slot, result in wait_for(pool, 3).items()}
        assert [steps[slot].reward for slot in range(3)] == [1.0, 0.5, 1 / 3]
        assert [steps[slot].terminated for slot in range(3)] == [True, False, False]
        assert pool.poll() == [], "nothing is under way, so poll does not wait"
        pool.step(1, "shout")
        assert wait_for(pool, 1)[1].step.observation == "at 1"


@pytest.mark.parametrize("workers", [0, 1])
def test_failures_are_results(workers):
    suite = Counting()
    with EnvironmentPool(suite, workers) as pool:
        bug = "KeyError: 'a bug in the environment'"
        for action, words in [
            ("fail", "says no"),
            ("too much", "1.5"),
            ("bug", bug),
            ("bug", "counting.py:"),
        ]:
            pool.reset(0, suite.tasks("train")[2])
            wait_for(pool, 1)
            pool.step(0, action)
            result = wait_for(pool, 1)[0]
            assert isinstance(result.failure, EnvironmentFailure) and words in str(result.failure)
            assert not result.collateral and result.step is None


def test_a_second_submit_to_a_busy_slot_is_refused():
    suite = Counting()
    with EnvironmentPool(suite, 1) as pool:
        pool.reset(0, suite.tasks("train")[0])
        with pytest.raises(RuntimeError, match="slot 0"):
            pool.step(0, "up")


def test_a_hang_costs_its_own_episode_and_innocent_siblings_are_told():
    earlier = psutil.Process().children(recursive=True)
    suite = Counting(helper=True)
    task = suite.tasks("test")[2]
    with EnvironmentPool(suite, workers=2, step_seconds=1.0) as pool:
        for slot in range(8):  # even slots share a worker, odd ones the other
            pool.reset(slot, task)
        started = wait_for(pool, 8)
        helpers = {slot: int(result.observation.split()[-1]) for slot, result in started.items()}
        pool.step(6, "up")
        pool.step(0, "sleep 60")  # hangs
        pool.step(2, "up")  # waits behind it
        pool.reset(4, task)  # so does this, but has nothing to lose
        pool.step(1, "up")
        before = time.monotonic()
        results = wait_for(pool, 5)
        assert 0.9 < time.monotonic() - before < 10
        assert results[6].step.reward == results[1].step.reward == 1 / 6
        assert "1 s" in str(results[0].failure) and not results[0].collateral
        assert results[2].failure is not None and results[2].collateral
        assert results[4].observation.startswith("Count to 6")
        pool.step(6, "up")  # its episode went down with the worker, between two requests
        pool.step(1, "up")
        results = wait_for(pool, 2)
        assert results[6].failure is not None and results[6].collateral
        assert results[1].step.reward == 2 / 6
        for slot in (0, 2, 6):
            pool.reset(slot, task)
        assert all(result.failure is None for result in wait_for(pool, 3).values())
        assert all(gone(helpers[slot]) for slot in (0, 2, 4, 6))
        assert psutil.pid_exists(helpers[1])
    assert set(psutil.Process().children(recursive=True)) <= set(earlier)
    assert all(gone(pid) for pid in helpers.values())


def test_a_crash_is_reported_with_the_process_s_last_words():
    suite = Counting(helper=True)
    with EnvironmentPool(suite, 1) as pool:
        pool.reset(0, suite.tasks("train")[0])
        helper = int(wait_for(pool, 1)[0].observation.split()[-1])
        pool.step(0, "crash")
        failure = wait_for(pool, 1)[0].failure
        assert "exit status 3" in str(failure) and "last words" in str(failure)
        assert gone(helper), "the dead worker's own children go with it"
        pool.reset(0, suite.tasks("train")[0])
        assert wait_for(pool, 1)[0].observation.startswith("Count to 1")


@pytest.mark.parametrize("where", ["here", "in a child"])
def test_too_much_memory_costs_its_own_episode_alone(where):
    suite = Counting(helper=True)
    task = suite.tasks("test")[2]
    earlier = psutil.Process().children(recursive=True)
    with EnvironmentPool(suite, workers=2, memory_mb=300) as pool:
        for slot in range(4):
            pool.reset(slot, task)
        started = wait_for(pool, 4)
        helpers = {slot: int(result.observation.split()[-1]) for slot, result in started.items()}
        pool.step(0, f"hoard 400 {where.split()[-1]}")
        pool.step(2, "sleep 60")  # waits behind it; where a child fills up, under way
        pool.step(1, "up")
        results = wait_for(pool, 3)
        assert results[1].step.reward == 1 / 6
        guilty = 0 if where == "here" and results[0].failure else 2
        assert "limit is memory_mb = 300" in str(results[guilty].failure) and not results[guilty].collateral
        if guilty == 0:
            assert results[2].failure is not None and results[2].collateral
        pool.reset(0, task)
        pool.reset(2, task)
        assert all(result.failure is None for result in wait_for(pool, 2).values())
        assert all(gone(helpers[slot]) for slot in (0, 2))
        assert psutil.pid_exists(helpers[1]) and psutil.pid_exists(helpers[3])
    assert set(psutil.Process().children(recursive=True)) <= set(earlier)


def test_a_worker_killed_for_its_memory_between_two_requests_is_charged_to_the_last():
    """Otherwise an episode that needs too much would be started again for ever."""
    suite = Counting()
    task = suite.tasks("test")[2]
    with EnvironmentPool(suite, 1, memory_mb=300) as pool:
        for slot in (0, 1):
            pool.reset(slot, task)
        wait_for(pool, 2)
        pool.step(0, "hoard 400 elsewhere")  # answered at once
        assert wait_for(pool, 1)[0].failure is None
        [worker] = pool._workers
        worker.process.wait(20)
        time.sleep(0.2)
        pool.poll(0)
        assert pool._workers != [worker]
        pool.step(0, "up")
        pool.step(1, "up")
        results = wait_for(pool, 2)
        assert "memory_mb" in str(results[0].failure) and not results[0].collateral
        assert results[1].failure is not None and results[1].collateral


def test_a_slow_leak_costs_tries_and_no_episode(monkeypatch):
    monkeypatch.setattr("eto.environments.hosting.process.WATCH_SECONDS", 0.05)
    suite, settings = Counting(), how(workers=1, slots=2, memory_mb=300)
    script = ["hoard 60 here", "sleep 0.2", *["up"] * 8]
    policy = scripted_actor(lambda messages: script[sum(message.role == "assistant" for message in messages)])
    tasks = suite.tasks("train") + suite.tasks("test")
    with EnvironmentPool.within(suite, settings["limits"]) as pool:
        first = pool._workers[0].process.pid
        played = rollouts(policy, suite, tasks, samples=2, **settings, pool=pool)
        assert pool._workers[0].process.pid != first
    assert len(played) == 12 and all(t.success and not t.failed for t in played)


def test_a_limit_too_low_to_start_in_is_the_user_s_mistake(monkeypatch):
    monkeypatch.setattr("eto.environments.hosting.process.WATCH_SECONDS", 0.001)
    suite = Counting()
    with EnvironmentPool(suite, 1, memory_mb=2) as pool:
        pool.reset(0, suite.tasks("train")[0])
        with pytest.raises(InputError, match="the limit is memory_mb = 2"):
            pool.poll(100)


def test_memory_is_the_machine_s_or_the_container_s(tmp_path):
    limit = tmp_path / "memory.max"
    everything = equal_share_mb(1, limit)
    assert everything == psutil.virtual_memory().total >> 20
    limit.write_text("max\n")
    assert equal_share_mb(2, limit) == everything // 2
    limit.write_text(f"{3 << 30}\n")
    assert equal_share_mb(2, limit) == 1536
    assert tree_mb(os.getpid()) > 20 and tree_mb(2**30) == 0.0


def test_a_slow_reader_does_not_turn_answers_into_failures():
    suite = Counting()
    with EnvironmentPool(suite, 1, step_seconds=0.5) as pool:
        pool.reset(0, suite.tasks("train")[2])
        pool.reset(1, suite.tasks("train")[2])
        wait_for(pool, 2)
        pool.step(0, "sleep 0.3")
        pool.step(1, "sleep 0.3")
        time.sleep(1.2)  # both answered in time; nobody looked
        assert all(result.failure is None for result in wait_for(pool, 2).values())


def test_a_suite_that_workers_cannot_import():
    class Scripted(Counting):
        def spec(self):
            return "__main__:Scripted", {}

    class Elsewhere(Counting):
        def spec(self):
            return "no_such_module:Suite", {}

    with pytest.raises(InputError, match="workers=0"):
        EnvironmentPool(Scripted(), 1)
    with EnvironmentPool(Scripted(), 0) as pool:
        pool.reset(0, Scripted().tasks("train")[0])
        assert pool.poll()[0].failure is None
    with EnvironmentPool(Elsewhere(), 1) as pool:
        pool.reset(0, Counting().tasks("train")[0])
        with pytest.raises(InputError, match="no_such_module"):
            pool.poll(20)


def test_nothing_outlives_a_killed_parent():
    script = (
        "import json, time\n"
        "from counting import Counting\n"
        "from eto.environments.hosting.pool import EnvironmentPool\n"
        "suite = Counting(helper=True)\n"
        "pool = EnvironmentPool(suite, 2)\n"
        "pool.reset(0, suite.tasks('train')[0]); pool.reset(1, suite.tasks('train')[0])\n"
        "found = pool.poll(20); found += [] if len(found) == 2 else pool.poll(20)\n"
        "pool.step(0, 'sleep 600')\n"
        "print(json.dumps([w.process.pid for w in pool._workers]\n"
        "                 + [int(r.observation.split()[-1]) for r in found]), flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": HERE},
        text=True,
    )
    pids = json.loads(parent.stdout.readline())
    assert len(pids) == 4 and all(psutil.pid_exists(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert all(gone(pid, seconds=8) for pid in pids), "one of them hung in a step and must go too"


@pytest.mark.parametrize("workers", [0, 2])
def test_experts_are_replayed_and_kept_in_order(workers):
    suite = Counting()
    tasks = suite.tasks("test") + suite.tasks("train")
    done = list(stream_experts(suite, tasks, workers=workers))
    found = collect_experts(suite, tasks, workers=workers)
    assert [expert.task.id for expert in found] == [f"counting/{n}" for n in (4, 5, 6, 1, 3)]
    assert {task.id for task, expert in done if isinstance(expert, NoExpert)} == {"counting/2"}
    assert {task.id for task, _ in done} == {task.id for task in tasks} and len(done) == len(tasks)
    assert found[0].actions == ("up",) * 4, "what follows the end is cut off"
    assert [turn.observation for turn in found[0].turns] == ["at 1", "at 2", "at 3", "at 4"]
    assert [turn.reward for turn in found[0].turns] == [0.25, 0.5, 0.75, 1.0]
    assert found[0].source == "expert" and found[0].success and found[0].score == 1.0
    assert found[0].messages[-1].content.startswith("Count to 4")


def test_an_expert_whose_simulator_dies_is_tried_again(tmp_path):
    suite = Counting(mark=str(tmp_path / "crashed-once"))
    assert len(collect_experts(suite, suite.tasks("test"), workers=1)) == 3
    assert (tmp_path / "crashed-once").exists()
