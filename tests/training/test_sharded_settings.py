"""Settings of training in several processes, and how a batch is divided: nothing is launched here."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from eto.errors import EngineFailure, InputError, MissingRequirement, RecipeError
from eto.experiment.loading import check_optimisers
from eto.experiment.recipe import parse_recipe
from eto.settings import DistributedSettings
from eto.tokens.prefix_tree import build_tree
from eto.training.backends import sharded_launch
from eto.training.backends.sharded import divided
from eto.training.backends.sharded_config import launched_by
from eto.training.example import Example

RECIPE = "name: x\nenvironment: {name: bandit}\n"


def test_defaults_are_one_process():
    settings = DistributedSettings()
    assert (settings.processes, settings.backend, settings.on) == (1, "single", False)
    assert DistributedSettings(processes=2).backend == "ddp"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"processes": 0}, "processes"),
        ({"processes": 2, "backend": "single"}, "single is one process"),
        ({"offload": True}, "offload has no effect in one process"),
        ({"accelerate_config": "x.yaml"}, "accelerate_config has no effect in one process"),
        ({"weights": "bfloat16"}, "weights: bfloat16 has no effect in one process"),
        ({"backend": "ddp", "offload": True}, "offload is fsdp2's"),
    ],
)
def test_values_that_do_not_go_together(values, says):
    with pytest.raises(InputError, match=says):
        DistributedSettings(**values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {processes: 4}\nmethod: {sft: {batch_size: 2}}", "4 processes, but steps of 2 examples"),
        (
            "train: {backend: fsdp2}\nmodel: {lora: {}}\nmethod: {dpo: {optimiser: learned}}",
            "learned does not update weights that are divided",
        ),
        ("train: {backend: fsdp2}\nmethod: {sft: {optimiser: adamw8bit}}", "adamw8bit does not update"),
    ],
)
def test_recipes_whose_trainings_do_not_go_with_processes(text, says):
    with pytest.raises(RecipeError, match=says) as caught:
        parse_recipe(RECIPE + text)
    assert "train." in str(caught.value)


@pytest.mark.parametrize(
    ("method", "section"),
    [
        ("kto, kto: {batch_size: 2}", "kto"),
        ("ppo, ppo: {batch_size: 2}", "ppo"),
        ("offline_critic, critic: {batch_size: 2}", "critic"),
        ("offline_critic, update: {batch_size: 2}", "update"),
        ("nat, sft: {batch_size: 2}", "sft"),
        ("early_experience, world: {batch_size: 2}", "world"),
        ("step_agent, reward: inverse, discriminator: {batch_size: 2}", "discriminator"),
    ],
)
def test_the_part_of_a_method_that_does_not_go_with_processes_is_named(method, section):
    for change, says in (("batch_size: 2", "steps of 2 examples"), ("optimiser: adamw8bit", "adamw8bit")):
        text = f"train: {{processes: 4, backend: fsdp2}}\nmethod: {{name: {method}}}"
        with pytest.raises(RecipeError, match=rf"method\.{section}: .*{says}") as caught:
            parse_recipe(RECIPE + text.replace("batch_size: 2", change))
        assert "set it to" in str(caught.value)
    parse_recipe(RECIPE + text.replace("batch_size: 2", "batch_size: 4"))


def test_a_part_that_nothing_reads_may_have_any_settings():
    recipe = "train: {processes: 16}\nmethod: {name: step_agent}"
    assert parse_recipe(RECIPE + recipe).method.discriminator.batch_size == 8


def test_what_is_missing_is_told_before_the_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingRequirement, match="needs the package bitsandbytes"):
        check_optimisers(parse_recipe(RECIPE + "method: {dpo: {optimiser: adamw8bit}}"))
    text = f"train: {{backend: ddp, accelerate_config: {tmp_path / 'none.yaml'}}}"
    with pytest.raises(InputError, match="there is no such file"):
        check_optimisers(parse_recipe(RECIPE + text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "is not an accelerate config"),
        ("distributed_type: DEEPSPEED", "distributed_type: DEEPSPEED is not supported"),
        ("num_machines: 2", "num_machines: 2"),
        ("num_processes: many", "is no number of processes"),
        ("num_processes: 2", "distributed_type: NO is one process"),
        ("num_processes: 3\ndistributed_type: MULTI_GPU", "num_processes is 3, but train.processes 2"),
    ],
)
def test_accelerate_configs_that_are_refused(tmp_path, text, says):
    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    settings = DistributedSettings(processes=2, accelerate_config=str(path))
    with pytest.raises(InputError, match=says) as caught:
        launched_by(settings)
    assert caught.value.where == str(path)


def test_an_accelerate_config_that_is_no_text(tmp_path):
    path = tmp_path / "accelerate.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not YAML") as caught:
        launched_by(DistributedSettings(backend="ddp", accelerate_config=str(path)))
    assert caught.value.where == str(path)


def test_steps_are_large_enough_for_the_processes_of_an_accelerate_config(tmp_path):
    path = tmp_path / "accelerate.yaml"
    path.write_text("distributed_type: MULTI_GPU\nnum_processes: 4\n")
    text = f"train: {{backend: ddp, accelerate_config: {path}}}\nmethod: {{sft: {{batch_size: 2}}}}"
    with pytest.raises(InputError, match=r"method\.sft: 4 processes, but steps of 2 examples") as caught:
        check_optimisers(parse_recipe(RECIPE + text))
    assert caught.value.where == str(path)


def test_a_rank_that_is_gone_at_once_is_told_by_its_launcher(monkeypatch, tmp_path):
    """It said who it is, or not even that; what it wrote says why."""
    program = (
        "import os, sys, socket; from multiprocessing.connection import Connection\n"
        "rank = socket.socket(socket.AF_UNIX); rank.connect(sys.argv[-1])\n"
        "sys.exit('no such device')"
    )
    monkeypatch.setattr(sharded_launch, "launched_by", lambda _: ([sys.executable, "-c", program], 1))
    with pytest.raises(EngineFailure, match=r"did not start: no such device"):
        sharded_launch.Processes(DistributedSettings(backend="ddp"))


def test_an_accelerate_config_of_gpus_is_launched_by_accelerate(tmp_path):
    path = tmp_path / "accelerate.yaml"
    path.write_text("distributed_type: FSDP\nnum_processes: 4\n")
    command, count = launched_by(DistributedSettings(backend="fsdp2", accelerate_config=str(path)))
    assert command[1:] == ["-m", "accelerate.commands.launch", "--config_file", str(path)] and count == 4


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="2 processes, but 1 GPU here"):
        sharded_launch.Processes(DistributedSettings(processes=2))


def example(tokens: int, first: int) -> Example:
    ids = np.full(tokens, first)
    return Example(build_tree([(ids, np.zeros(tokens, dtype=np.int64))]), (np.ones(tokens - 1),))


def test_a_batch_is_divided_by_tokens():
    """Trees of 6, 2, 2 and 2 tokens over two ranks in passes of 2: the long one is half of the tokens."""
    batch = [example(2, 7), example(6, 1), example(2, 8), example(2, 9)]
    one, two = divided(batch, 2, 2)
    assert [[each.tree.ids[0] for each in part] for part in one["passes"]] == [[1], [7], [7]]
    assert one["counted"] == 1
    assert [[each.tree.ids[0] for each in part] for part in two["passes"]] == [[7], [8], [9]]
    assert two["counted"] == 3


def test_a_rank_without_an_example_keeps_step():
    one, two = divided([example(3, 1)], 10, 2)
    assert one["counted"] + two["counted"] == 1
    assert len(one["passes"]) == len(two["passes"]) == 1


def test_what_accelerate_refuses_is_told_without_its_traceback(tmp_path):
    path = tmp_path / "accelerate.yaml"
    path.write_text("distributed_type: MULTI_GPU\nnum_processes: 1\nno_such_key: 3\n")
    with pytest.raises(EngineFailure, match=r"did not start: ValueError: .*no_such_key") as caught:
        sharded_launch.Processes(DistributedSettings(backend="ddp", accelerate_config=str(path)))
    assert len(caught.value.problem.splitlines()) == 1 and "correct what it names" in caught.value.hint


def test_what_a_process_raised_is_told_and_not_that_torchrun_counts_it():
    written = (
        'Traceback (most recent call last):\n  File "a.py", line 1\nRuntimeError: no room\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n=====\nexitcode  : 1\n"
    )
    assert sharded_launch._raised_in(written) == "RuntimeError: no room"
    assert sharded_launch._raised_in(f"[rank1]: {written.splitlines()[2]}") == "RuntimeError: no room"
    assert sharded_launch._raised_in("killed") == ""
