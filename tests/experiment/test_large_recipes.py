"""The recipes for 7B models: read and planned, with nothing but a configuration of Llama-2-7B's sizes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from eto.experiment.planning import plan as planning
from eto.experiment.planning.hardware import named_hardware
from eto.experiment.planning.work import Counts, Lengths
from eto.experiment.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
PLANNED_FOR = {
    "7b_eight_gpus.yaml": "8xA100-80GB",
    "7b_one_gpu.yaml": "H200-141GB",
    "7b_lora_one_gpu.yaml": "A100-80GB",
    "7b_qlora_one_gpu.yaml": "L40S-48GB",
}
LLAMA_2_7B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
LONG = Lengths(300, 40, 110, turns=14.4, most_turns=30, longest=4000, source="given")


def test_each_recipe_for_7b_is_planned_here():
    assert {path.name for path in RECIPES.glob("7b_*.yaml")} == set(PLANNED_FOR)


@pytest.mark.parametrize("name", PLANNED_FOR)
def test_it_fits_where_it_says(name, tmp_path, monkeypatch):
    """No simulator is started: lengths are given, longer than ScienceWorld's."""
    path = RECIPES / name
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Not run") and f"--hardware {PLANNED_FOR[name]}`" in text.splitlines()[0]
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B))
    recipe = load_recipe(path, [f"model.path={tmp_path}", f"run_directory={tmp_path / 'run'}"])
    counts = Counts(train=1483, experts=1483, cloned=1483, dev=0, test=211)
    monkeypatch.setattr(planning, "_tasks", lambda *_: (LONG, counts))
    plan = planning.plan_run(recipe, named_hardware(PLANNED_FOR[name]))
    installed = {"model.lora.frozen"} if find_spec("bitsandbytes") is None else set()
    others = [each for each in plan.problems if each.where not in {str(recipe.directory), *installed}]
    assert others == [], "but for the disk, and what is not installed here"
    assert plan.peak < planning.ROOM * plan.hardware.memory
    assert "dev check" not in plan.memory
    assert {each.stage for each in plan.work} >= {"sft", "explore-1", "dpo-1", "explore-2", "dpo-2", "test"}


def test_the_papers_hyperparameters():
    """ETO, section 4.1, and its code where the paper states none."""
    method = load_recipe(RECIPES / "7b_one_gpu.yaml").method.model_dump()
    common = {"epochs": 3, "batch_tokens": None, "weight_decay": 0.0, "optimiser": "adamw"}
    cloning = {"learning_rate": 1e-5, "batch_size": 64, "schedule": "cosine", "warmup_ratio": 0.03}
    preferring = {"learning_rate": 1e-6, "batch_size": 32, "beta": 0.1, "loss": "sigmoid", "sft_weight": 0.0}
    assert method["iterations"] == 2 and method["explore"] == {"samples": 1, "temperature": 0.0}
    assert (common | cloning).items() <= method["sft"].items()
    assert (common | preferring).items() <= method["dpo"].items()
    assert method["dpo"]["rehearsal_weight"] == 0.0 and not method["guard"]["ship_only_if_better"]
