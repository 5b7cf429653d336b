"""A server that goes bad in mid-exploration: one message, and no finished episode is played again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from coin_game import write_recipe
from completion_server import half, send, serving
from token_server import TokenServer

from eto.data.formats import read_trajectories

TASKS = 24
GOOD = 24
"""Requests answered well: some episodes' worth, and those of the start."""


def answers(status: int, content: Any) -> Any:
    return lambda handler, _body: send(handler, status, content) or True


@pytest.mark.parametrize(
    ("trouble", "code", "says"),
    [
        (answers(200, b"<html>maintenance"), 3, ["nor JSON: '<html>maintenance'", "takes and returns"]),
        (answers(200, {"text": "hi"}), 3, ["one choice: {'text': 'hi'}", "takes and returns"]),
        (answers(401, {}), 2, ["refused with 401", "rollout.server.key_variable"]),
        (answers(413, b"<h1>Too Large"), 2, ["413: HTTP status 413 <h1>Too Large", "longer requests"]),
        (answers(500, {"detail": "no room"}), 3, ["no room", "server's own log"]),
        (half, 3, ["the connection failed", "server's own log"]),
    ],
    ids=["page", "other JSON", "401", "413", "500", "half"],
)
def test_finished_episodes_stay(trouble, code, says, model: Path, tmp_path: Path, command):
    with serving(TokenServer(model, context=512)) as server:
        rollout = {"engine": "server", "server": {"urls": [server.url], "retries": 0}}
        rollout |= {"slots": 2, "max_action_tokens": 4, "retries": 0}
        tasks = {"train_per_kind": TASKS}
        recipe = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", rollout=rollout, tasks=tasks)
        explore = ("explore", "--recipe", recipe, "--model", model, "--out", tmp_path / "played.jsonl")
        asked = 0

        def turns_bad(handler: Any, body: Any) -> bool:
            nonlocal asked
            asked += 1
            if asked == GOOD + 1:
                time.sleep(0.5)  # the other slot's good answer comes first: it ends a row of bad ones
            return asked > GOOD and trouble(handler, body)

        server.fault = turns_bad
        error = command.fails(*explore, code=code, says=["asked: POST", "prompt of", *says])
        assert error.count("error:") == 1 and error.count("hint:") == 1, error
        server.fault = None
        out = command(*explore)
        assert out.code == 0 and "resum" in out.out + out.error, out
    played = read_trajectories(tmp_path / "played.jsonl")
    assert len(played) == TASKS and not any(each.failed for each in played)
