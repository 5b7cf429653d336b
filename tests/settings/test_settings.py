"""Settings classes: strict, self-validating, with defaults that give way to what is given."""

from __future__ import annotations

import pytest

from eto.errors import InputError
from eto.methods import METHODS, load_method
from eto.methods.early_experience import EarlyExperienceSettings
from eto.methods.eto import EtoSettings
from eto.methods.hpl import HplSettings
from eto.methods.ipr import IprSettings
from eto.methods.lope import LopeSettings
from eto.methods.lope import needs as needs_of_lope
from eto.methods.practice import PracticeSettings
from eto.protocols import Method, Need
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    EnvironmentLimits,
    EnvironmentSettings,
    EvaluationSettings,
    ExploreSettings,
    GuardSettings,
    LoraSettings,
    MethodSettings,
    ModelSettings,
    RolloutSettings,
    Settings,
    SftSettings,
    TaskSettings,
    TrainingSettings,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DpoSettings, {"loss": "foo"}),
        (DpoSettings, {"schedule": "foo"}),
        (DpoSettings, {"beta": -1}),
        (DpoSettings, {"beta": 0.0}),
        (DpoSettings, {"beta": NAN}),
        (DpoSettings, {"beta": "0.1"}),
        (DpoSettings, {"learning_rate": INF}),
        (DpoSettings, {"label_smoothing": 0.5}),
        (DpoSettings, {"rehearsal_weight": -0.1}),
        (DpoSettings, {"batch_size": True}),
        (DpoSettings, {"warmup_ratio": 1.0}),
        (DpoSettings, {"dropout": 0.1}),
        (SftSettings, {"epochs": 0}),
        (SftSettings, {"epochs": 1.0}),
        (SftSettings, {"epochs": None}),
        (SftSettings, {"learning_rate": 0}),
        (SftSettings, {"batch_tokens": 0}),
        (SftSettings, {"max_grad_norm": 0.0}),
        (SftSettings, {"weight_decay": -1e-9}),
        (SftSettings, {"micro_batch_tokens": 0}),
        (TrainingSettings, {"epochs": 0}),
        (RolloutSettings, {"slots": 0}),
        (RolloutSettings, {"max_action_tokens": 0}),
        (RolloutSettings, {"retries": -1}),
        (EnvironmentLimits, {"workers": -1}),
        (EnvironmentLimits, {"step_seconds": 0}),
        (EnvironmentLimits, {"memory_mb": 63}),
        (ExploreSettings, {"temperature": -0.1}),
        (EvaluationSettings, {"temperature": NAN}),
        (EvaluationSettings, {"bootstrap_resamples": 99}),
        (TaskSettings, {"explore_unseen": 1.0}),
        (GuardSettings, {"max_margin": 0}),
        (GuardSettings, {"max_drift": NAN}),
        (GuardSettings, {"patience": 0}),
        (GuardSettings, {"max_repeated": 1.5}),
        (GuardSettings, {"dev_every_steps": 0}),
        (ContrastSettings, {"discount": NAN}),
        (ContrastSettings, {"turns": "last"}),
        (ContrastSettings, {"per_task": 0}),
        (ContrastSettings, {"min_gap": 1.0}),
        (ContrastSettings, {"both_directions": "no"}),
        (LoraSettings, {"target_modules": []}),
        (ModelSettings, {"activation_checkpointing": 1}),
        (ModelSettings, {"path": ""}),
        (EtoSettings, {"iterations": -1}),
        (EtoSettings, {"dpo": SftSettings()}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "-".join(map(str, value)),
)
def test_a_value_out_of_range_is_refused_by_name(kind, wrong):
    with pytest.raises(InputError) as caught:
        kind(**wrong)
    assert caught.value.where == f"{kind.__name__}: {list(wrong)[-1]}"
    assert "but is" in caught.value.problem


def test_mistakes_inside_a_section_name_the_field():
    with pytest.raises(InputError) as caught:
        EtoSettings(sft={"epochs": 0})
    assert caught.value.where == "EtoSettings: sft.epochs"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean beta") as caught:
        DpoSettings(betta=0.2)
    assert caught.value.where == "DpoSettings: betta"
    with pytest.raises(InputError, match="known here: slots, max_action_tokens, retries"):
        RolloutSettings(zzz=1)


def test_what_is_required_is_named():
    with pytest.raises(InputError, match="EnvironmentSettings: name: is missing"):
        EnvironmentSettings()


@pytest.mark.parametrize(
    ("kind", "wrong", "told"),
    [
        (SftSettings, {"schedule": "constant", "warmup_ratio": 0.1}, "set warmup_ratio to 0"),
        (SftSettings, {"batch_size": 8, "batch_tokens": 1000}, "set batch_size or the other to null"),
        (SftSettings, {"batch_size": None}, "give batch_size or batch_tokens"),
        (DpoSettings, {"loss": "ipo", "label_smoothing": 0.1}, "no meaning with loss: ipo"),
        (DpoSettings, {"loss": "robust", "label_smoothing": 0.0}, "set label_smoothing above 0"),
        (DpoSettings, {"dpop_penalty": 5.0}, "no meaning with loss: sigmoid"),
        (DpoSettings, {"anchor": "sum"}, "set sft_weight above 0"),
        (ContrastSettings, {"turns": "window"}, "needs window"),
        (ContrastSettings, {"window": 3}, "no meaning with turns: all"),
        (GuardSettings, {"patience": 2, "dev_every_epoch": False}, "patience counts dev checks"),
        (GuardSettings, {"max_repeated": 0.5, "dev_every_epoch": False}, "max_repeated concerns dev checks"),
        (GuardSettings, {"dev_every_steps": 5, "dev_every_epoch": False}, "it needs dev_every_epoch"),
        (ExploreSettings, {"samples": 2}, "needs temperature above 0"),
        (TaskSettings, {"train_per_kind": 4, "experts_per_kind": 4}, "set experts_per_kind below"),
        (PracticeSettings, {"contrast": {"agent_pairs": False}}, "set contrast.agent_pairs to true"),
        (PracticeSettings, {"explore": {"samples": 1}}, "raise explore.samples"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(kind, wrong, told):
    with pytest.raises(InputError) as caught:
        kind(**wrong)
    assert told in caught.value.problem and "{" not in caught.value.problem
    assert caught.value.where == kind.__name__


def test_practice_without_pairs_needs_neither_two_episodes_nor_dev_tasks():
    cloned = PracticeSettings(dpo=None, explore={"samples": 1}, contrast={"agent_pairs": False})
    assert not cloned.needs_dev() and PracticeSettings().needs_dev() == "guard.dev_every_epoch"
    assert {"contrast", "fresh_pairs", "accumulate", "guard"} == set(cloned.without_effect())


def test_a_default_gives_way_to_what_is_given():
    assert (SftSettings().warmup_ratio, DpoSettings().warmup_ratio) == (0.03, 0.1)
    assert SftSettings(schedule="constant").warmup_ratio == 0.0
    assert (SftSettings().batch_size, DpoSettings().batch_size) == (64, 32)
    assert SftSettings(batch_tokens=1000).batch_size is None
    assert DpoSettings(loss="robust").label_smoothing == 0.1 and DpoSettings().label_smoothing == 0.0
    assert DpoSettings(loss="dpop").dpop_penalty == 5.0 and DpoSettings().dpop_penalty == 0.0


def test_a_copy_with_other_values_is_validated_and_its_defaults_adapt():
    constant = DpoSettings(schedule="constant", beta=0.3)
    again = constant.replace(schedule="linear")
    assert (again.beta, again.warmup_ratio) == (0.3, 0.1)
    assert constant.warmup_ratio == 0.0
    with pytest.raises(InputError, match="DpoSettings: beta"):
        constant.replace(beta=-1.0)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        DpoSettings().beta = 1.0


def test_every_field_is_documented():
    def classes(kind):
        return [kind, *(inner for each in kind.__subclasses__() for inner in classes(each))]

    for kind in classes(Settings):
        if kind.__module__.startswith("eto."):
            for name, field in kind.model_fields.items():
                assert field.description, f"{kind.__name__}.{name}"


def test_a_method_is_found_by_its_file():
    assert "eto" in METHODS
    assert load_method("eto").settings is EtoSettings
    assert issubclass(load_method("eto").settings, MethodSettings)


def test_an_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean eto") as caught:
        load_method("etto")
    assert caught.value.where == "method.name"


def test_a_method_may_be_added_for_a_time(monkeypatch):
    mine = Method("mine", "nothing", EtoSettings, load_method("eto").train, load_method("eto").stages)
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "mine", mine)
        assert load_method("mine") is mine and "mine" in list(METHODS)
    assert "mine" not in METHODS


def test_a_section_in_part_keeps_the_methods_defaults():

    given = IprSettings(dpo={"beta": 0.5}, contrast={"both_directions": False})
    assert (given.dpo.beta, given.dpo.epochs, given.dpo.learning_rate) == (0.5, 3, 3e-6)
    assert (given.contrast.min_gap, given.contrast.margin_turns) == (0.01, None)
    assert given.sft == IprSettings().sft and IprSettings(dpo=DpoSettings()).dpo == DpoSettings()
    by_tokens = IprSettings(dpo={"batch_tokens": 1000}).dpo
    assert (by_tokens.batch_size, by_tokens.batch_tokens) == (None, 1000)


def test_what_a_method_asks_for():
    assert EtoSettings().needs_dev() == "guard.dev_every_epoch"
    assert EtoSettings(guard=GuardSettings(dev_every_epoch=False)).needs_dev() == "guard.ship_only_if_better"
    assert EtoSettings(iterations=0).needs_dev() == ""
    assert set(EtoSettings(iterations=0).without_effect()) == {
        *("explore", "granularity", "contrast", "accumulate", "dpo", "guard"),
    }
    idle = EtoSettings(granularity="step").without_effect()
    assert {"contrast.margin_turns", "contrast.match"} <= set(idle) and "contrast.min_gap" not in idle


def test_what_a_method_does_not_read():
    several = {"contrast.match", "contrast.agent_pairs", "contrast.per_task"}
    for single in (IprSettings(), HplSettings()):
        assert several <= set(single.without_effect()), "one episode of each task that has an expert"
    assert "contrast.both_directions" in PracticeSettings().without_effect(), "there the better one is chosen"
    assert set(EarlyExperienceSettings().without_effect()) == {
        "world.observation_weight",
        "world.zero_reward",
    }


def test_lope_without_ties_needs_what_eto_needs():
    ties = LopeSettings(contrast={"agent_pairs": False})
    assert ties.idle_without_expert() == "" and needs_of_lope(ties) == [Need.EXPERTS | Need.REWARD]
    neither = ties.replace(similarity={"ties": 0})
    assert "agent_pairs" in neither.idle_without_expert()
    assert needs_of_lope(neither) == [Need.EXPERTS, Need.SPREAD]
    assert needs_of_lope(LopeSettings(similarity={"ties": 0})) == [Need.SPREAD]
