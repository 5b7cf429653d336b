"""Plans of trainings in several processes, and of engines outside this process."""

from __future__ import annotations

import pytest
from test_planning import config_only, recipe_of  # noqa: F401

from eto.experiment.planning.hardware import named_hardware
from eto.experiment.planning.plan import plan_run


def test_processes_share_the_hours_and_are_counted_in_an_accelerate_config(config_only, tmp_path):  # noqa: F811
    file = tmp_path / "accelerate.yaml"
    file.write_text("distributed_type: MULTI_GPU\nnum_processes: 4\n")
    four = {"train.backend": "fsdp2", "train.processes": 4}
    launched = {"train.backend": "fsdp2", "train.accelerate_config": file}
    one, by_field, by_file = (
        plan_run(recipe_of(tmp_path, config_only, **each), named_hardware("4xL4-24GB"))
        for each in ({}, four, launched)
    )
    assert by_field.work[0].hours == pytest.approx(one.work[0].hours / 4)
    assert (by_file.work, by_file.memory) == (by_field.work, by_field.memory)
    few = plan_run(recipe_of(tmp_path, config_only, **launched), named_hardware("2xL4-24GB"))
    assert [(each.problem, each.where) for each in few.problems] == [("4 processes on 2 GPUs", str(file))]


@pytest.mark.parametrize(
    ("ray", "servers", "problem"),
    [
        ("{address: '10.0.0.5:6379', replicas: 8, gpus_each: 1}", 0, ""),
        ("{replicas: 2, gpus_each: 1}", 1, ""),
        ("{replicas: 4, gpus_each: 0.5}", 2, ""),
        ("{replicas: 4}", 0, ""),
        ("{replicas: 4, gpus_each: 1}", 1, "4 replicas with 1 GPU each need more than 2 GPUs here"),
    ],
)
def test_replicas_of_ray_on_the_learners_device(ray, servers, problem, config_only, tmp_path):  # noqa: F811
    recipe = recipe_of(tmp_path, config_only, f"rollout: {{engine: ray, ray: {ray}}}\n")
    plan = plan_run(recipe, named_hardware("2xL4-24GB"))
    contexts = plan.memory["server"].context if servers else 0
    assert contexts == servers * plan.hardware.context and ("server" in plan.memory) == bool(servers)
    assert [each.problem for each in plan.problems] == ([problem] if problem else [])


def test_an_engine_that_takes_no_weights_is_a_problem(config_only, tmp_path):  # noqa: F811
    chat = "rollout: {engine: chat, chat: {url: 'http://127.0.0.1:1', model: large}}\n"
    plan = plan_run(recipe_of(tmp_path, config_only, chat), named_hardware("L4-24GB"))
    assert [each.where for each in plan.problems] == ["rollout.engine chat"]
