"""Plans: arithmetic worked out by hand, and what they check, of a model that is config.json alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import save_tiny, tiny_model
from typer.testing import CliRunner, Result

from eto.cli import app
from eto.data.formats import write_trajectories
from eto.errors import InputError
from eto.experiment.compose import suite_of, tasks_of
from eto.experiment.planning.checks import Problem, check_recipe
from eto.experiment.planning.hardware import named_hardware
from eto.experiment.planning.lengths import sampled_lengths
from eto.experiment.planning.memory import (
    Spread,
    Storage,
    acting_memory,
    cache_bytes,
    processes_that_fit,
    server_memory,
    training_memory,
    with_agent,
)
from eto.experiment.planning.plan import plan_run
from eto.experiment.planning.work import Counts, Lengths, Pace, total, works
from eto.experiment.recipe import load_recipe
from eto.methods import declared_stages, load_method
from eto.models.shape import ModelShape, empty_model, shape_of
from eto.rollout.experts import collect_experts

SHAPE = ModelShape(1000, 1000, layers=4, layer_parameters=200, hidden=10, vocabulary=20, cache_numbers=80)
LENGTHS = Lengths(100, 10, 20, turns=4, most_turns=8, longest=220, source="by hand")
COUNTS = Counts(train=10, experts=10, cloned=5, dev=3, test=7)


def test_training_by_hand():
    """4 + 2 + 4 + 8 bytes of each weight, the reference's log-probs of 4 bytes a token."""
    found = training_memory(SHAPE, 500, context=7, reference_tokens=25)
    assert (found.weights, found.copy, found.gradients, found.optimiser) == (4000, 2000, 4000, 8000)
    assert (found.context, found.activations, found.reference) == (7, 500, 100)
    assert found.total == 18_607
    assert training_memory(SHAPE, 0, Storage(compute=4)).copy == 0, "fp32 computes with the masters"
    assert training_memory(SHAPE, 0, spread=Spread(sums=3)).gradients == 12_000


def test_sharding_divides_all_but_the_layers_under_way():
    found = training_memory(SHAPE, 500, spread=Spread(4, sharded=True))
    assert (found.weights, found.gradients, found.optimiser, found.activations) == (1000, 1000, 2000, 500)
    assert found.copy == 2 * (2 * 200 + 2 * 20 * 10)
    assert training_memory(SHAPE, 500, spread=Spread(4)).weights == 4000, "DDP holds all in each"


def test_adapters_alone_have_gradients():
    shape = ModelShape(1000, 50, 4, 200, 10, 20, 80)
    found = training_memory(shape, 0, Storage(frozen=0.5))
    assert (found.weights, found.gradients, found.optimiser) == (4 * 50 + 475, 200, 400)


def test_narrow_frozen_weights_have_no_copy():
    """Frozen weights take what is kept of them; only adapters are cast."""
    shape = ModelShape(1000, 50, 4, 200, 10, 20, 80)
    found = training_memory(shape, 0, Storage(frozen=0.5, narrow=True))
    assert (found.weights, found.copy) == (4 * 50 + 475, 2 * 50)
    acting = acting_memory(shape, 5, 20, Storage(frozen=0.5))
    assert (acting.weights, acting.copy) == (4 * 50 + 475, 2000), "it acts with merged weights"
    assert acting_memory(shape, 5, 20, Storage(compute=4)).copy == 4000, "so it does in fp32"


def test_adapters_in_fewer_bytes(config_only, tmp_path):
    """Of each frozen weight 6 bytes, 2, and about half a one; of each that is trained in 8 bits 2 for 8."""

    def training(*lora: str, **more: str):
        text = "rank: 4" + "".join(f", {each}" for each in lora)
        changes = {"model.dtype": "bfloat16", "model.lora": f"{{{text}}}", **more}
        plan = plan_run(recipe_of(tmp_path, config_only, **changes), named_hardware("L4-24GB"))
        return plan.memory["training"], plan.shape

    wide, shape = training()
    half, _ = training("frozen: bfloat16")
    small, _ = training("frozen: nf4")
    assert 0 < shape.linear < shape.frozen
    assert (wide.weights, wide.copy) == (4 * shape.parameters, 2 * shape.parameters)
    assert (half.weights, half.copy) == (4 * shape.trained + 2 * shape.frozen, 2 * shape.trained)
    rest = shape.frozen - shape.linear
    assert small.weights == pytest.approx(4 * shape.trained + 0.516 * shape.linear + 2 * rest, rel=1e-3)
    assert (small.copy, small.gradients, small.optimiser) == (half.copy, half.gradients, half.optimiser)
    assert small.activations - half.activations == 2 * 96 * 64, "a layer read back"
    eight = {f"method.{name}.optimiser": "adamw8bit" for name in ("sft", "dpo")}
    assert training("frozen: bfloat16", **eight)[0].optimiser == half.optimiser / 4


def test_entropies_are_planned(config_only, tmp_path):
    """Six buffers of the predictions' size, not two."""
    taken = []
    for weight in (0.0, 0.1):
        changes = {"method": f"{{name: ppo, ppo: {{entropy_weight: {weight}}}}}"}
        plan = plan_run(recipe_of(tmp_path, config_only, **changes), named_hardware("L4-24GB"))
        taken.append(plan.memory["training"].activations)
    assert taken[1] - taken[0] == 4 * 4 * 512 * 434


def test_acting_by_hand():
    assert cache_bytes(SHAPE, 100, 2) == 16_000
    acting = acting_memory(SHAPE, 5, 20)
    assert (acting.weights, acting.copy, acting.cache) == (4000, 2000, 16_000)
    server = server_memory(SHAPE, 5, 20, devices=2)
    assert (server.weights, server.cache) == (1000, 8000)
    check = with_agent(training_memory(SHAPE, 500), acting)
    assert (check.copy, check.activations, check.cache) == (4000, 0, 16_000)


def test_how_many_processes_fit():
    assert processes_that_fit(SHAPE, 100, Storage(), 18_100) == 1
    # 16,000 / 4 + 1,600 of layers under way + 100
    assert processes_that_fit(SHAPE, 100, Storage(), 5_700) == 4
    assert processes_that_fit(SHAPE, 100, Storage(), 5_699) == 8
    assert processes_that_fit(SHAPE, 100, Storage(), 1_000) is None


def test_stages_by_hand():
    """Own episodes have 6 turns: half way between 4 and 8."""
    settings = load_method("eto").settings(iterations=1)
    pace = Pace(1000, operations=1e9, bandwidth=1e9)
    by_name = {each.stage: each for each in works(declared_stages(settings), settings, COUNTS, LENGTHS, pace)}
    assert by_name["sft"].trained == 3 * 5 * (100 + 4 * 30)
    assert by_name["dpo-1"].trained == 3 * 10 * ((100 + 4 * 30) + (100 + 6 * 30))
    assert by_name["explore-1"].episodes == 10
    assert by_name["explore-1"].generated == 10 * 6 * 10 and by_name["explore-1"].read == 10 * (100 + 6 * 20)
    assert by_name["dev-sft"].episodes == 3 and by_name["dpo-1"].episodes == 3 * 3
    assert by_name["test"].episodes == 2 * 7
    assert total(by_name.values()).trained == by_name["sft"].trained + by_name["dpo-1"].trained


def test_seconds_by_hand():
    pace = Pace(1000, operations=1e9, bandwidth=1e6, slots=4)
    assert pace.training_seconds(350) == pytest.approx(6 * 1000 * 350 / (0.35 * 1e9))
    recomputing = Pace(1000, operations=1e9, bandwidth=1e6, recomputes=True)
    assert recomputing.training_seconds(350) == pytest.approx(8 * 1000 * 350 / (0.35 * 1e9))
    # Writing reads 2,000 bytes of weights at 0.5 MB/s for each step of four episodes: 4 ms.
    assert pace.acting_seconds(0, 400) == pytest.approx(0.004 * 100)
    # With a thousand episodes it is bound by operations: 2 million at half of 1e9 a second.
    crowd = Pace(1000, operations=1e9, bandwidth=1e6, slots=4000)
    assert crowd.acting_seconds(0, 4000) == pytest.approx(2 * 1000 * 4000 / 0.5e9)


def test_shape_is_the_models_own(tmp_path):
    real = tiny_model(434)
    real.config.save_pretrained(tmp_path)
    shape = shape_of(empty_model(tmp_path))
    assert shape.parameters == sum(weight.numel() for weight in real.parameters()) == shape.trained
    assert (shape.layers, shape.cache_numbers) == (2, 2 * 2 * 2 * 16)
    adapted = shape_of(empty_model(tmp_path, {"rank": 2, "alpha": 4.0, "dropout": 0.0}))
    assert 0 < adapted.trained < 0.1 * shape.parameters
    assert adapted.parameters == shape.parameters + adapted.trained


def test_unusable_configurations(tmp_path):
    with pytest.raises(InputError, match="no config"):
        plan_run(recipe_of(tmp_path, tmp_path / "nothing"), named_hardware("RTX4090-24GB"))
    for text in ("not JSON", '{"model_type": "t5"}', '{"model_type": "mamba", "num_hidden_layers": 1}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError):
            empty_model(tmp_path)


def test_hardware_by_name():
    eight = named_hardware("8xa100-80gb")
    assert (eight.count, eight.name, eight.memory) == (8, "A100-80GB", 80 * 10**9)
    with pytest.raises(InputError, match="did you mean RTX4090-24GB"):
        named_hardware("RTX4090-24G")


def recipe_of(folder: Path, model: Path, text: str = "", **changes):
    path = folder / "planned.yaml"
    path.write_text(
        f"name: planned\nrun_directory: {folder / 'run'}\nmodel: {{path: {json.dumps(str(model))}}}\n"
        "environment: {name: bandit, options: {horizon: 12}}\n"
        "tasks: {train_per_kind: 3, dev_per_kind: 2, test_per_kind: 2}\n" + text,
        encoding="utf-8",
    )
    return load_recipe(path, [f"{name}={value}" for name, value in changes.items()])


@pytest.fixture
def config_only(tmp_path):
    """A model of which nothing but its configuration is there."""
    folder = tmp_path / "model"
    tiny_model(434, max_position_embeddings=4096).config.save_pretrained(folder)
    return folder


def test_a_plan_needs_no_weights(config_only, tmp_path):
    plan = plan_run(recipe_of(tmp_path, config_only), named_hardware("RTX4090-24GB"))
    assert plan.problems == [] and plan.fits_on == 1
    assert plan.counts.train > 0 and plan.lengths.turns > 1
    assert "characters to a token" in plan.lengths.source, "no tokenizer is there"
    assert [each.stage for each in plan.work][:2] == ["sft", "dev-sft"]
    assert plan.peak == max(part.total for part in plan.memory.values())
    assert json.loads(json.dumps(plan.record()))["memory"]["training"]["total"] > 0
    assert not (tmp_path / "run").exists(), "planning makes no run"


def test_its_tokenizer_counts_where_it_is_there(tmp_path):
    folder = save_tiny(tmp_path / "model", max_position_embeddings=4096)
    plan = plan_run(recipe_of(tmp_path, folder), named_hardware("RTX4090-24GB"))
    assert "tokenizer" in plan.lengths.source


def test_what_stands_in_the_way_is_named(config_only, tmp_path):
    vllm = "rollout: {engine: vllm, max_action_tokens: 2, vllm: {replicas: 4, command: [no-such-program]}}\n"
    recipe = recipe_of(tmp_path, config_only, vllm, **{"model.max_context": 64})
    found = {each.where: each.problem for each in plan_run(recipe, named_hardware("2xL4-24GB")).problems}
    assert "training cuts it to 64" in found["model.max_context"]
    assert "more than an action may" in found["rollout.max_action_tokens"]
    assert found["rollout.vllm.command"] == "no-such-program is no program"
    assert "on 2" in found["rollout.vllm.replicas"]


def test_a_context_beyond_the_models_is_a_problem(config_only, tmp_path):
    found: list[Problem] = []
    recipe = recipe_of(tmp_path, config_only, **{"model.max_context": 5000})
    assert check_recipe(recipe, empty_model(config_only), found) == 4096
    assert ["more than the model's 4096" in each.problem for each in found] == [True]


def test_missing_environment_is_a_problem_and_not_the_end(config_only, tmp_path):
    plan = plan_run(
        recipe_of(tmp_path, config_only, **{"environment.name": "nowhere"}), named_hardware("RTX4090-24GB")
    )
    assert any("nowhere" in str(each) for each in plan.problems)
    assert plan.memory["training"].total > 0, "memory is told all the same"


def test_a_model_too_large_is_said_to_fit_sharded(tmp_path):
    folder = tmp_path / "7b"
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096}
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000}
    (folder / "config.json").write_text(json.dumps(config | sizes | heads))
    plan = plan_run(recipe_of(tmp_path, folder), named_hardware("A100-80GB"))
    assert plan.shape.parameters == 6_738_415_616  # Llama-2-7B's
    assert plan.recomputes, "activations are recomputed where memory asks for it"
    assert plan.fits_on == 2 and any("sharded over 2" in each.hint for each in plan.problems)


def test_experts_of_the_run_are_taken_where_it_has_some(config_only, tmp_path):
    recipe = recipe_of(tmp_path, config_only)
    suite = suite_of(recipe)
    tasks = tasks_of(recipe, suite, "train")
    kept = recipe.directory / "stages" / "expert" / "expert.jsonl"
    kept.parent.mkdir(parents=True)
    write_trajectories(kept, collect_experts(suite, tasks[:1], workers=0))
    lengths, experts = sampled_lengths(recipe, suite, tasks, config_only)
    assert len(experts) == 1 and lengths.source.startswith("the run's experts")


def planned(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_the_command_prints_a_table_or_json(config_only, tmp_path):
    recipe_of(tmp_path, config_only)
    path = tmp_path / "planned.yaml"
    done = planned(path, "--plan", "--hardware", "2xL4-24GB")
    assert done.exit_code == 0, done.output
    for said in ("2 x L4-24GB", "activations", "explore-1", "disk", "no problems found"):
        assert said in done.output
    for without in (["--quiet"], ["--from", tmp_path]):
        assert f"{without[0]}: it has no effect on --plan" in str(planned(path, "--plan", *without).exception)
    done = planned(path, "model.max_context=64", "--plan", "--hardware", "L4-24GB", "--json")
    assert done.exit_code == 2
    told = json.loads(done.output)
    assert told["problems"][0]["where"] == "model.max_context" and told["peak"] > 0


def test_hardware_needs_a_plan(config_only, tmp_path):
    recipe_of(tmp_path, config_only)
    done = planned(tmp_path / "planned.yaml", "--hardware", "L4-24GB")
    assert isinstance(done.exception, InputError) and done.exception.where == "--hardware"
    assert not (tmp_path / "run").exists()


def test_processes_divide_what_each_holds(config_only, tmp_path):
    """With fsdp2; with ddp each has all, and the first GPU the driver's copy too."""
    recipe_of(tmp_path, config_only)
    path = tmp_path / "planned.yaml"

    def memory(*overrides: str) -> dict[str, float]:
        done = planned(path, "--plan", "--hardware", "4xL4-24GB", "--json", *overrides)
        return json.loads(done.output)["memory"]["training"]

    one = memory()
    divided = memory("train.processes=4", "train.backend=fsdp2")
    assert divided["optimiser"] == pytest.approx(one["optimiser"] / 4, abs=1)
    whole = memory("train.processes=4")
    assert whole["optimiser"] == one["optimiser"] and whole["weights"] == 2 * one["weights"]
    assert memory("train.processes=2", "train.weights=bfloat16")["optimiser"] == one["optimiser"] / 2
    done = planned(path, "--plan", "--hardware", "2xL4-24GB", "train.processes=4")
    assert "4 processes on 2 GPUs" in done.output and done.exit_code == 2
