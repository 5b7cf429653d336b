"""Faults of servers and of the environments behind them, over both protocols: none is the agent's."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing, contextmanager

import httpx2
import pytest
import test_agentgym
import test_serving_openenv
from counting import Counting, CountingEnvironment
from playing import how
from test_agentgym import serving

from eto.engines.scripted import scripted_actor
from eto.environments.hosting.pool import EnvironmentPool
from eto.environments.remote import reaching, serving_agentgym, serving_openenv
from eto.errors import EnvironmentFailure
from eto.rollout.rollouts import rollouts
from eto.types import StopReason

PROTOCOLS = ["agentgym", "openenv"]


def built(protocol: str, suite, **options):
    tasks = suite.tasks("train")
    if protocol == "agentgym":
        return serving_agentgym.build_app(suite, tasks, **options)
    return serving_openenv.build_app(suite, tasks, "train", **options)


def client(protocol: str, address: str):
    module = test_agentgym if protocol == "agentgym" else test_serving_openenv
    return module.client(address)


@contextmanager
def by_hand(suite, **options):
    """An AgentGym server of `suite`, its sessions, and what asks it."""
    app = built("agentgym", suite, **options)
    with serving(app) as address, httpx2.Client(base_url=address) as http:
        yield http, app.state.sessions


def test_an_environment_that_failed_plays_no_further():
    made = []

    class Noting(Counting):
        def environment(self):
            made.append(CountingEnvironment(self))
            return made[-1]

    with by_hand(Noting()) as (http, _):
        session = http.post("/create").json()

        def step(action: str) -> dict:
            return http.post("/step", json=session | {"action": action}).json()

        assert "no episode is under way" in step("up")["error"]
        http.post("/reset", json=session | {"data_idx": 0})
        assert "a bug in the environment" in step("bug")["error"]
        assert "no episode is under way" in step("up")["error"]
        assert http.post("/reset", json=session | {"data_idx": 0}).json()["done"] is False
        assert [environment.closed for environment in made] == [1, 0]
        assert (step("up")["reward"], step("up")["observation"]) == (1.0, "The episode has ended.")
        assert made[-1].count == 1


@pytest.mark.parametrize("number", ["NaN", "1e999", '"\\ud800"'])
def test_what_is_no_number_of_a_session_is_told(number):
    with by_hand(Counting()) as (http, _):
        body = f'{{"id": {number}, "action": "up"}}'
        refused = http.post("/step", content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 422 and refused.json()["detail"][0]["loc"] == ["body", "id"]


def test_half_a_character_is_an_action():
    heard = []

    class Noting(CountingEnvironment):
        def step(self, action):
            heard.append(action)
            return super().step(action)

    class Suite(Counting):
        def environment(self):
            return Noting(self)

    with by_hand(Suite()) as (http, _):
        session = http.post("/create").json()
        http.post("/reset", json=session)
        body = json.dumps(session | {"action": "a \ud800"})
        http.post("/step", content=body, headers={"content-type": "application/json"})
        assert heard == ["a \N{REPLACEMENT CHARACTER}"]


def test_a_server_that_was_started_again_knows_no_session_of_before():
    numbers = []
    for _ in range(2):
        with by_hand(Counting()) as (http, _sessions):
            numbers.append(http.post("/create").json()["id"])
    assert numbers[0] != numbers[1]


def test_a_session_at_work_is_not_idle_and_holds_up_no_other():
    with by_hand(Counting(), idle_seconds=0.5) as (http, sessions):
        slow = http.post("/create").json()
        http.post("/reset", json=slow)
        working = threading.Thread(target=lambda: http.post("/step", json=slow | {"action": "sleep 2.5"}))
        working.start()
        http.post("/create")
        until = time.monotonic() + 2
        while len(sessions) > 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert working.is_alive()
        working.join()
        assert http.post("/step", json=slow | {"action": "up"}).json()["reward"] == 1.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_session_that_was_closed_between_episodes_costs_no_try(protocol):
    app = built(protocol, Counting(), idle_seconds=3.0)
    with serving(app) as address:
        remote = client(protocol, address)
        actor = scripted_actor(lambda messages: "up")
        with EnvironmentPool(remote, workers=1) as pool:
            for _ in range(2):  # between the two a model may be trained
                played = rollouts(actor, remote, remote.tasks("train"), pool=pool, **how(slots=2, retries=0))
                assert [trajectory.stop for trajectory in played] == [StopReason.TERMINATED] * 3
                test_serving_openenv.until_open(app.state.sessions, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_started_again_is_waited_for(protocol):
    with serving(built(protocol, Counting())) as address:
        remote = client(protocol, address)
        environment = remote.environment()
        environment.reset(remote.tasks("train")[1])
        environment.step("up")
    with pytest.raises(EnvironmentFailure):
        environment.step("up")
    environment.close()
    again, over = threading.Event(), threading.Event()

    def restart():
        time.sleep(1.0)
        with serving(built(protocol, Counting()), int(address.rpartition(":")[2])):
            again.set()
            over.wait(30)

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        with closing(remote.environment()) as environment:
            assert environment.reset(remote.tasks("train")[0]).startswith("Count to 1.")
            assert again.is_set() and environment.step("up").success
    finally:
        over.set()
        restarting.join()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_stays_away_is_waited_for_once(protocol, monkeypatch):
    monkeypatch.setattr(reaching, "BACK_SECONDS", 1.0)
    with serving(built(protocol, Counting())) as address:
        remote = client(protocol, address)
        with closing(remote.environment()) as environment:
            environment.reset(remote.tasks("train")[0])
    sleep, pauses, waited = time.sleep, [], []
    monkeypatch.setattr(reaching.time, "sleep", lambda seconds: pauses.append(sleep(seconds)))
    for suite in (client(protocol, address), remote, remote):  # the first has never met it
        pauses.clear()
        with closing(suite.environment()) as environment, pytest.raises(EnvironmentFailure, match="refused"):
            environment.reset(remote.tasks("train")[0])
        waited.append(bool(pauses))
    assert waited == [False, True, False]


def test_a_refusal_has_the_servers_words():
    with serving(built("agentgym", Counting())) as address:
        remote = test_agentgym.client(address, train=[0, 9], dev=[9, 9], test=[9, 9])
        with (
            closing(remote.environment()) as environment,
            pytest.raises(EnvironmentFailure, match=r"404: .*data_idx 7: the server has 3 tasks"),
        ):
            environment.reset(remote.tasks("train")[7])
