"""What goes through the pipe of a worker process comes out whole."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from test_formats import trajectories

from eto.environments.worker import episode_from_json, episode_to_json
from eto.types import StopReason, Trajectory


@settings(max_examples=60, deadline=None)
@given(trajectories())
def test_an_expert_episode_comes_back_whole(one: Trajectory) -> None:
    back = episode_from_json(one.task, json.loads(json.dumps(episode_to_json(one))))
    as_expert = {"success": True, "stop": StopReason.TERMINATED, "source": "expert", "sample": 0, "seed": 0}
    assert back == replace(one, **as_expert, tokenizer=None, detail="", tools=())
