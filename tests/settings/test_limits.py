"""Settings in Python are checked like recipes, and no setting goes without effect."""

from __future__ import annotations

import pytest

from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import InputError, RecipeError
from eto.experiment.recipe import parse_recipe, recorded
from eto.models.adapters import add_lora
from eto.rollout.experts import collect_experts
from eto.rollout.rollouts import rollouts
from eto.settings import EnvironmentLimits, RolloutSettings, SftSettings
from eto.settings.limits import check_values
from eto.training.learner import Learner, load_learner
from eto.training.loop import Fit

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (RolloutSettings, {"slots": 0}),
        (RolloutSettings, {"max_action_tokens": 0}),
        (EnvironmentLimits, {"workers": -1}),
        (EnvironmentLimits, {"step_seconds": 0}),
        (EnvironmentLimits, {"episode_seconds": NAN}),
        (RolloutSettings, {"retries": -1}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "-".join(map(str, value)),
)
def test_a_value_out_of_range_is_refused_by_name(kind, wrong):
    name = list(wrong)[-1]
    with pytest.raises(InputError) as caught:
        kind(**wrong)
    assert caught.value.where == f"{kind.__name__}: {name}" and "but is" in caught.value.problem


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"checkpoint_seconds": NAN},
        {"activation_checkpointing": 1},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_arguments_of_training_are_checked(wrong):
    with pytest.raises(InputError, match=f"Fit: {next(iter(wrong))}"):
        Fit(None, [], None, SftSettings(), **wrong)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_recipes_take_finite_numbers_alone(value):
    with pytest.raises(RecipeError, match=r"dpo\.learning_rate"):
        parse_recipe(
            "name: a\nenvironment: {name: b}\n", [f"method.dpo.learning_rate=.{value}".replace(".-", "-.")]
        )


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["method.sft.batch_size=8", "method.sft.batch_tokens=100"],
            "set method.sft.batch_size or the other to null",
        ),
        (["method.sft.schedule=constant", "method.sft.warmup_ratio=0.1"], "set method.sft.warmup_ratio to 0"),
        (["method.dpo.schedule=constant", "method.dpo.warmup_ratio=0.1"], "set method.dpo.warmup_ratio to 0"),
        (["method.sft.batch_size=null"], "give method.sft.batch_size or method.sft.batch_tokens"),
        (["model.lora.target_modules=[]"], "model.lora.target_modules"),
    ],
)
def test_recipes_refuse_what_has_no_effect(overrides, says):
    with pytest.raises(RecipeError, match=says):
        parse_recipe("name: a\nenvironment: {name: b}\n", overrides)


def test_a_run_recorded_with_values_that_had_no_effect_is_the_same_run():
    text = "name: a\nenvironment: {name: b}\nmethod:\n  sft: {batch_size: 64, batch_tokens: 9}\n"
    text += "  dpo: {schedule: constant, warmup_ratio: 0.1}\n"
    now = parse_recipe(text.replace("batch_size: 64, ", "").replace(", warmup_ratio: 0.1", ""))
    assert recorded(text) == now.model_dump(mode="json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_context": 0},
        {"dtype": "float64"},
        {"lora": {"rank": 0}},
        {"lora": {"rnk": 8}},
        {"lora": {"alpha": NAN}},
        {"lora": {"dropout": 1.0}},
        {"lora": {"target_modules": []}},
        {"lora": 8},
        {"drafting": "yes"},
    ],
    ids=str,
)
def test_arguments_of_load_learner_are_checked(tiny_path, wrong):
    [(name, value)] = wrong.items()
    inner = next(iter(value)) if isinstance(value, dict) else name
    with pytest.raises(InputError, match=inner):
        load_learner(tiny_path, **wrong)


def test_arguments_of_other_functions(tiny_policy):
    with pytest.raises(InputError, match="rank"):
        add_lora(tiny_policy.model, rank=-1)
    with pytest.raises(InputError, match="rollouts: samples"):
        rollouts(tiny_policy.actor("a"), None, [], samples=0)
    for value in (-0.1, NAN):
        with pytest.raises(InputError, match="rollouts: temperature"):
            rollouts(tiny_policy.actor("a"), None, [], temperature=value)
    with pytest.raises(InputError, match="EnvironmentPool: workers"):
        EnvironmentPool(None, workers=-1)
    with pytest.raises(InputError, match="collect_experts: retries"):
        collect_experts(None, [], retries=-1)
    with pytest.raises(InputError, match="dtype"):
        Learner(tiny_policy.model, tiny_policy.tokenizer, dtype="float64")
    with pytest.raises(InputError, match="unknown setting"):
        check_values(SftSettings, {"epoch": 3})
