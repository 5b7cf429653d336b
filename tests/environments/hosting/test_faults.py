"""Every fault of a user's suite costs its own episode alone, and the check reports it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from faulty import ANSWERS, DEADLY, FAULTS, HARMLESS, RAISING, Faulty
from playing import how
from typer.testing import CliRunner

from eto.cli import app
from eto.data.formats import read_trajectories, write_trajectories
from eto.data.store import TrajectoryStore
from eto.engines.actor import Actor
from eto.engines.scripted import scripted_actor
from eto.environments import SUITES, load_suite
from eto.environments.hosting.pool import EnvironmentPool
from eto.environments.toolkit.conformance import check_environment
from eto.errors import EtoError, InputError
from eto.rollout.experts import stream_experts
from eto.rollout.rollouts import rollouts
from eto.types import Phase, StopReason

PLAYED = [fault for fault in FAULTS if not fault.startswith(("environment", "expert", "actions"))]
EXPERTS = [fault for fault in FAULTS if fault.startswith(("expert", "actions"))]
ACROSS = ["reset: value error", "step: exit", "step: hang", "reset: hang", "set", "five values", *DEADLY]


def lookers() -> Actor:
    return scripted_actor(
        lambda messages: ("look", "win")[min(sum(m.role == "assistant" for m in messages), 1)]
    )


def played(fault: str, settings: dict[str, Any]):
    suite = Faulty(fault)
    return rollouts(lookers(), suite, suite.tasks("train"), **settings)


def expect_one_failure(found, fault: str) -> None:
    first, bad, last = found
    assert first.success and last.success, "other episodes go on"
    assert bad.stop is StopReason.ENVIRONMENT_FAILED and bad.failed and bad.detail
    if fault.split(": ")[-1] in RAISING:
        assert "faulty.py:" in bad.detail
    if "value error" in fault:
        assert "ValueError: cannot read it" in bad.detail


@pytest.mark.parametrize("fault", [fault for fault in PLAYED if "hang" not in fault])
def test_a_fault_is_its_episode_s_failure_in_this_process(fault, tmp_path):
    found = played(fault, how(workers=0, slots=2))
    expect_one_failure(found, fault)
    with TrajectoryStore(tmp_path / "store.sqlite") as store:
        for trajectory in found:
            store.add(Phase("explore"), trajectory)
        assert len(store.get(Phase("explore"))) == 2 and len(store.failures(Phase("explore"))) == 1
    write_trajectories(tmp_path / "all.jsonl", found)
    assert len(read_trajectories(tmp_path / "all.jsonl")) == 3


@pytest.mark.parametrize("fault", ACROSS)
def test_a_fault_is_its_episode_s_failure_across_the_pipe(fault):
    settings = how(workers=1, slots=3, step_seconds=1.0, reset_seconds=3.0, retries=0)
    expect_one_failure(played(fault, settings), fault)


@pytest.mark.parametrize("fault", [*ANSWERS, *HARMLESS])
def test_what_does_no_harm_does_none(fault):
    found = played(fault, how(workers=1, slots=3))
    assert all(t.success and len(t.turns) == 2 for t in found), [t.detail for t in found]
    bad = found[1].turns[0]
    assert type(bad.reward) is float and type(bad.observation) is str and bad.reward == 0.5
    if fault == "half a pair":
        assert bad.observation == "well done \ufffd"
    if fault in ANSWERS:
        assert check_environment(Faulty(fault), workers=0) == []


@pytest.mark.parametrize("fault", [fault for fault in (*FAULTS, *DEADLY) if "environment" not in fault])
def test_the_check_reports_what_fails_in_a_run(fault):
    """In this process where that is the same; what hangs or dies, across the pipe."""
    apart = "hang" in fault or fault in DEADLY
    problems = check_environment(Faulty(fault), workers=int(apart), step_seconds=1.0, reset_seconds=3.0)
    assert any("faulty/1" in problem for problem in problems), problems
    assert not any("faulty/0" in problem or "faulty/2" in problem for problem in problems), problems


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["value error", "exit"])
def test_simulators_that_cannot_be_made(kind, workers):
    suite = Faulty(f"environment: {kind}")
    found = rollouts(lookers(), suite, suite.tasks("train"), **how(workers=workers))
    assert [t.stop for t in found] == [StopReason.ENVIRONMENT_FAILED] * 3
    assert all("faulty.py:" in t.detail for t in found)
    assert check_environment(suite, workers=workers)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no tasks", "has no tasks"),
        ("tasks raise", "the list is lost"),
        ("same id", "faulty/0 occurs 3 times"),
        ("number as id", "int and not text"),
    ],
)
def test_tasks_that_cannot_be_listed(fault, words):
    [problem, *_] = check_environment(Faulty(fault), workers=0)
    assert words in problem and ("hint: " in problem)


@pytest.mark.parametrize("fault", [*EXPERTS, "step: value error"])
def test_an_expert_that_fails_is_told_with_its_reason(fault):
    suite = Faulty(fault)
    found = dict((task.id, found) for task, found in stream_experts(suite, suite.tasks("train"), workers=0))
    assert found["faulty/0"].success and found["faulty/2"].success
    why = found["faulty/1"]
    assert why.reason == "failed" and why.detail


class Elsewhere(Faulty):
    def __init__(self, spec=None) -> None:
        super().__init__()
        self.given = spec

    def spec(self):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (None, "not two values"),
        (("faulty:Faulty", {"fault": {1, 2}}), "set, which JSON does not have"),
        (("faulty:Faulty", {"flaw": ""}), "flaw"),
        (("faulty:Nothing", {}), "Nothing"),
        (("faulty:hang", {}), "no answer"),
        (("faulty:dig", {"depth": 0}), "RecursionError"),
        (OSError("gone"), "OSError: gone"),
    ],
)
def test_a_suite_that_no_worker_can_make(spec, words):
    suite = Elsewhere(spec)
    with (
        pytest.raises(EtoError, match=words),
        EnvironmentPool(suite, 1, reset_seconds=3.0) as pool,
    ):
        pool.reset(0, suite.tasks("train")[0])
        while True:
            pool.poll(20)


def test_the_first_word_on_a_suite_that_cannot_be_played_ends_the_call():
    class Closed(Faulty):
        def environment(self):
            raise InputError("no server of that name", hint="start it")

    with pytest.raises(InputError, match="no server of that name"):
        rollouts(lookers(), Closed(), Closed().tasks("train"), **how(workers=0))


def test_listing_leaves_directory_and_signals_as_they_are(monkeypatch):
    class Restless(Faulty):
        def __init__(self):
            super().__init__()
            os.chdir("/")
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    monkeypatch.setitem(SUITES, "restless", ("test_faults", "Restless"))
    monkeypatch.setattr("test_faults.Restless", Restless, raising=False)
    before = os.getcwd(), signal.getsignal(signal.SIGINT)
    load_suite("restless")
    assert (os.getcwd(), signal.getsignal(signal.SIGINT)) == before


def test_a_worker_that_dies_between_two_requests_is_charged_to_someone():
    """Otherwise its episodes would be started again for ever."""

    def slowly(messages):
        time.sleep(0.5)
        return "look"

    suite = Faulty("dies late")
    [found] = rollouts(scripted_actor(slowly), suite, suite.tasks("train")[1:2], **how(workers=1))
    assert found.failed and "exit status 6" in found.detail


def test_a_policy_that_gives_no_text_is_not_the_environment_s_fault():
    suite = Faulty()
    with pytest.raises(InputError, match="answered NoneType, not text"):
        rollouts(scripted_actor(lambda _: None), suite, suite.tasks("train"))


def test_ctrl_c_is_no_fault_of_the_environment():
    with pytest.raises(KeyboardInterrupt):
        played("step: interrupt", how(workers=0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Unmade", r"FileNotFoundError: games.json \(.*test_faults.py:\d+\)"),
        ("Half", "its suite has no spec"),
    ],
)
def test_a_suite_that_cannot_be_made_is_the_user_s_mistake(name, words, monkeypatch):
    monkeypatch.setitem(SUITES, "user", ("test_faults", name))
    with pytest.raises(InputError, match=words):
        load_suite("user")


class Unmade(Faulty):
    def __init__(self) -> None:
        raise FileNotFoundError("games.json")


class Half(Faulty):
    spec = None


@pytest.mark.parametrize("fault", ["reset none", "set", "step: value error", "numpy", "half a pair"])
def test_the_command_keeps_what_could_be_played(fault, tiny_path, tmp_path, monkeypatch):
    monkeypatch.setitem(SUITES, "faulty", ("faulty", "Faulty"))
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(
        app,
        [
            *("explore", "--out", str(out), "--model", str(tiny_path), "environment.name=faulty"),
            *(f"environment.options.fault={fault!r}", "environment.workers=1", "rollout.max_action_tokens=4"),
        ],
    )
    assert done.exit_code == 0, done.output
    found = read_trajectories(out)
    assert [t.failed for t in found] == [False, fault not in ANSWERS, False]
    assert ("1 of 3 episodes failed" in done.output) is (fault not in ANSWERS)
