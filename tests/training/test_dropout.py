"""Preference training runs without dropout, unless a recipe asks for it by name."""

from __future__ import annotations

import pytest
import torch
from test_loop import PAIRED, episodes, pairs, policy, rows
from tiny import save_tiny, tiny_model, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from eto.errors import InputError
from eto.settings import SftSettings
from eto.training.cloning import cloning
from eto.training.dropout import has_dropout
from eto.training.preference import dpo, preference

STILL = PAIRED.replace(epochs=2, batch_size=1, learning_rate=1e-9)
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.5}


@pytest.fixture
def dropping(request, tmp_path):
    """A policy whose model drops in attention, in hidden states, by modules or functions, or in adapters."""
    size = len(tiny_tokenizer())
    if request.param == "attention":
        return policy(save_tiny(tmp_path, attention_dropout=0.3))
    if request.param == "adapters":
        learner = policy(save_tiny(tmp_path), lora=LORA)
        with torch.no_grad():  # fresh adapters add nothing, whatever is dropped before them
            for name, weight in learner.model.named_parameters():
                if "lora_B" in name:
                    weight += 0.1
        return learner
    tiny_tokenizer().save_pretrained(tmp_path)
    if request.param == "modules":
        small = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "resid_pdrop": 0.3}
        tiny_model(size, GPT2LMHeadModel, GPT2Config, **small).save_pretrained(tmp_path)
    else:
        small = {"ffn_dim": 96, "dropout": 0.3, "word_embed_proj_dim": 64}
        tiny_model(size, OPTForCausalLM, OPTConfig, **small).save_pretrained(tmp_path)
    return policy(tmp_path)


KINDS = ["attention", "adapters", "modules", "functions"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("dropping", KINDS, indirect=True)
def test_steps_that_change_nothing_have_margin_and_drift_0(dropping, recomputed):
    fit = preference(dropping, pairs(2), STILL, activation_checkpointing=recomputed)
    assert fit.recomputes == recomputed
    for row in rows(fit):
        found = [row[name] for name in ("margin", "chosen_drift", "rejected_drift")]
        assert found == pytest.approx([0.0, 0.0, 0.0], abs=1e-4)


@pytest.mark.parametrize("dropping", ["attention", "adapters"], indirect=True)
def test_dropout_asked_for_by_name_is_there_and_told(dropping):
    with pytest.warns(UserWarning, match="reference is scored without dropout"):
        seen = rows(preference(dropping, pairs(2), STILL.replace(dropout=True)))
    assert max(abs(row["chosen_drift"]) for row in seen) > 1e-2


@pytest.mark.parametrize("dropping", ["attention", "adapters"], indirect=True)
def test_the_plain_backend_drops_where_asked_and_only_there(dropping):
    dropping.fast_paths = False
    for row in rows(preference(dropping, pairs(2), STILL)):
        assert row["chosen_drift"] == pytest.approx(0.0, abs=1e-4)
    settings = SftSettings(epochs=3, learning_rate=1e-9, schedule="constant")
    drawn = [[row["loss"] for row in rows(cloning(dropping, episodes(2), settings))] for _ in range(2)]
    assert max(drawn[0]) - min(drawn[0]) > 1e-3
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-5), "what is dropped depends on the step alone"


@pytest.mark.parametrize("dropping", KINDS, indirect=True)
def test_dropout_is_seen(dropping):
    assert has_dropout(dropping.model)


def test_dropout_where_there_is_none_is_refused(tiny_path):
    assert not has_dropout(policy(tiny_path).model)
    with pytest.raises(InputError, match="neither model nor adapters"):
        dpo(policy(tiny_path), pairs(1), STILL.replace(dropout=True))


@pytest.mark.parametrize("dropping", ["attention"], indirect=True)
def test_cloning_keeps_dropout(dropping):
    settings = SftSettings(epochs=3, learning_rate=1e-9, schedule="constant")
    losses = [row["loss"] for row in rows(cloning(dropping, episodes(2), settings))]
    assert max(losses) - min(losses) > 1e-3
