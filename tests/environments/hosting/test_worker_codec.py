"""What goes through the pipe of a worker process comes out whole."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given, settings

from eto.data.codec import from_line, to_line
from eto.environments.hosting.boundary import Begun
from eto.environments.hosting.host import NoExpert
from eto.environments.hosting.java import SimulatorDied
from eto.environments.hosting.requests import Fault, Reply, Request
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task, ToolCall, Trajectory
from tests.data.test_formats import trajectories


@settings(max_examples=60, deadline=None)
@given(trajectories())
def test_an_expert_episode_comes_back_whole(one: Trajectory) -> None:
    assert from_line(Reply, to_line(Reply(expert=one))) == Reply(expert=one)


@pytest.mark.parametrize(
    "value",
    [
        Reply(),
        Reply(expert=NoExpert("unsolved", "it fails")),
        Reply(step=Step("a door\u2028", 0.5, False, success=None, score=-100.0)),
        Reply(begun=Begun("here", (Message("user", "go", tool_calls=(ToolCall("f"),)),), 30)),
        Request(3, "reset", Task("a/1", "a", "k", "dev", {"n": [1, {"deep": None}], "x": float("inf")})),
        Request(3, "step", action="look\n"),
        Request(0, "quit"),
        Request(1, "expert", Task("a/1", "a", "k", "dev", MappingProxyType({"n": 1}))),
    ],
)
def test_requests_and_replies_come_back_whole(value: Request | Reply) -> None:
    line = to_line(value)
    assert line.isascii() and "\n" not in line
    assert from_line(type(value), line) == value


@pytest.mark.parametrize("line", ["", "what a simulator prints", "5", "[]", '{"begun": 5}', "{}, {}"])
def test_what_is_no_reply_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        from_line(Reply, line)


def test_errors_come_back_as_what_they_are() -> None:
    failure = Fault.of(EnvironmentFailure("it hangs", where="step", hint="restart")).error()
    assert (type(failure), failure.where, failure.hint) == (EnvironmentFailure, "step", "restart")
    assert type(Fault.of(InputError("no")).error()) is InputError
    assert Fault.of(SimulatorDied("gone")).died
    bug = from_line(Reply, to_line(Reply(fault=Fault.of(ZeroDivisionError("oh"))))).fault.error()
    assert type(bug) is RuntimeError and "ZeroDivisionError: oh" in str(bug)
