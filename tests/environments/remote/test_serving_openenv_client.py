"""Our environments played by the package openenv's own clients, and judged by its own validation."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from counting import Counting
from test_agentgym import serving
from test_openenv import NEEDS_OPENENV, PYTHON

from eto.environments import load_suite
from eto.environments.remote.serving_openenv import build_app

pytestmark = NEEDS_OPENENV
CLIENT = Path(__file__).resolve().parents[2] / "helpers" / "openenv_client.py"


@pytest.mark.parametrize("name", ["counting", "scienceworld", "alfworld", "webshop"])
def test_an_episode_is_the_same_over_its_clients(name):
    suite = Counting() if name == "counting" else load_suite(name)
    tasks = suite.tasks("train")
    with closing(suite.environment()) as environment:
        actions = ["xyzzy", *suite.expert_actions(tasks[0], environment)]
        own = [environment.reset(tasks[0])]
        for action in actions:
            step = environment.step(action)
            own.append(step.observation)
            if step.terminated:
                break
    assert step.success
    actions = actions[: len(own) - 1]
    with serving(build_app(suite, tasks, "train")) as address:
        asked = json.dumps({"seed": 0, "actions": actions})
        command = [PYTHON, str(CLIENT), address]
        played = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=120)
    assert played.returncode == 0, played.stderr
    told = json.loads(played.stdout)
    for steps in (told["steps"], told["async"]):
        assert [_stable(step[0]) for step in steps] == [_stable(text) for text in own]
        assert [step[1] for step in steps] == [None] * len(actions) + [
            step[3]["reward"] for step in steps[-1:]
        ]
        assert [step[2] for step in steps] == [False] * len(actions) + [True]
        assert (steps[-1][1], steps[-1][3]["success"]) == (1.0, True)
    assert told["state"]["episode_id"] == "of the client"
    assert told["state"]["step_count"] == len(actions)
    out_of_range, no_field = told["faults"]
    assert f"seed -1: split train has {len(tasks)} tasks" in out_of_range
    assert "message: Field required" in no_field and "(code: VALIDATION_ERROR)" in no_field
    assert told["others"][3]["task_id"] == tasks[1].id
    assert _stable(told["again"][0]) == _stable(own[0])


def _stable(text: str) -> str:
    """A text without the process id that the counting suite's observations may carry."""
    return text.split(" helper ")[0]


def test_its_clients_are_told_of_a_full_server():
    suite = Counting()
    script = (
        "import sys\n"
        "from openenv.core import GenericEnvClient\n"
        "one, two = (GenericEnvClient(base_url=sys.argv[1]).sync() for _ in range(2))\n"
        "one.reset(seed=0)\n"
        "try:\n"
        "    two.reset(seed=0)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
        "one.close(), two.close()\n"
    )
    with serving(build_app(suite, suite.tasks("train"), "train", limit=1)) as address:
        played = subprocess.run([PYTHON, "-c", script, address], capture_output=True, text=True, timeout=60)
    assert "holds 1 session at a time, all taken (code: CAPACITY_REACHED)" in played.stdout, played.stderr


def test_its_validation_of_running_servers_passes():
    suite = Counting()
    with serving(build_app(suite, suite.tasks("train"), "train")) as address:
        command = [PYTHON, "-m", "openenv.cli", "validate", "--url", address, "--json"]
        judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout + judged.stderr
