"""Every architecture of docs/models.md is played, trained, saved and read again, or refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import REFUSED, SUPPORTED, tiny_architecture
from playing import Talk, act_together
from tiny import tiny_tokenizer, trajectory
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from eto.engines.in_process.probe import check_acting
from eto.errors import InputError
from eto.settings import SftSettings
from eto.tokens.prefix_tree import build_tree
from eto.training.backends.core_groups import grouped_log_probs
from eto.training.cloning import cloning, sft
from eto.training.learner import Learner, load_learner
from eto.training.memory import kept_activations

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
EPISODES = [
    trajectory(("open the door", "The door is now open."), ("take the apple", "Nothing happens."), number=n)
    for n in range(2)
]


def sequences(seed: int) -> list[list[int]]:
    """Two that part after 20 tokens: longer than every window here."""
    rows = np.random.default_rng(seed).integers(0, 400, (2, 40)).tolist()
    return [rows[0], rows[0][:20] + rows[1][20:]]


def plain_log_probs(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[1:, None])[:, 0]


def assert_scored_alike(model, own, **tolerance: float) -> None:
    """The log-probs of two trees in one row, under `model` here, are those of `own` in plain rows."""
    groups = [sequences(0), sequences(1)]
    trees = [build_tree([(ids, [0] * len(ids)) for ids in group]) for group in groups]
    found = grouped_log_probs(model, trees, torch.float32, 10**6)
    for group, leaves in zip(groups, found, strict=True):
        for ids, leaf in zip(group, leaves, strict=True):
            assert_close(torch.from_numpy(leaf), plain_log_probs(own, ids), **tolerance)


def assert_plays_as_generate(policy: Learner, own) -> None:
    """Greedy actions of two conversations that move along together are `transformers`' own."""
    talks = [Talk(policy.actor("a"), episode.messages, max_tokens=6) for episode in EPISODES]
    for observation in (None, "a door", "The door is now open. " * 3):
        for talk, turn in zip(talks, act_together(talks, observation), strict=True):
            start = talk.ids[: -len(turn.action_ids)]
            expected = own.generate(
                torch.tensor([start]),
                attention_mask=torch.ones(1, len(start), dtype=torch.long),
                do_sample=False,
                max_new_tokens=6,
                eos_token_id=policy.renderer.end_of_turn,
                pad_token_id=0,
            )[0, len(start) :].tolist()
            assert list(turn.action_ids) == expected


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_architecture_is_played_trained_and_saved(name, tmp_path):
    kind, _, changes = SUPPORTED[name]
    tiny_architecture(kind, changes).save_pretrained(tmp_path / "start")
    tiny_tokenizer().save_pretrained(tmp_path / "start")
    policy = load_learner(tmp_path / "start", dtype="float32")
    own = AutoModelForCausalLM.from_pretrained(tmp_path / "start", dtype=torch.float32)
    assert float(plain_log_probs(own, sequences(0)[0]).std()) > 0.1, "a model that predicts nothing"
    assert_plays_as_generate(policy, own)
    assert_scored_alike(policy.model, own, atol=1e-4, rtol=1e-4)

    settings = SftSettings(epochs=2, learning_rate=3e-3, batch_size=2, warmup_ratio=0.0)
    losses = [step.figures["loss"] for step in cloning(policy, EPISODES, settings)]
    assert losses[1] < losses[0]
    for dtype in (torch.float32, torch.bfloat16):
        tree = build_tree([(ids, [0] * len(ids)) for ids in sequences(0)])
        assert kept_activations(policy.model, [tree], dtype) > 0
    policy.save(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert_scored_alike(policy.model, saved, atol=1e-4, rtol=1e-4)
    assert_plays_as_generate(policy, saved)


@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_is_refused_with_the_reason(name):
    kind, reason, changes = REFUSED[name]
    with pytest.raises(InputError, match=reason) as caught:
        check_acting(tiny_architecture(kind, changes))
    assert "docs/models.md" in caught.value.hint


def test_the_page_lists_what_is_tested():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| (.*?) \|$", page, re.MULTILINE)
    tested = {**SUPPORTED, **REFUSED}
    rows = [row for row in rows if row[1] != "model_type"]
    assert rows == [(name, kind, what) for name, (kind, what, _) in tested.items()]


def test_longrope_reaches_as_far_as_its_first_length(tmp_path):
    kind, _, changes = SUPPORTED["Phi-3, longrope"]
    tiny_architecture(kind, changes).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load_learner(tmp_path).max_context == 256
    with pytest.raises(InputError, match="more than the model's 256: beyond it, longrope"):
        load_learner(tmp_path, max_context=257)


@pytest.mark.parametrize("name", ["GPT-2", "Mixtral", "DeepSeek-V2", "Gemma 3"])
def test_adapters_of_an_architecture_act_and_are_saved_as_they_train(name, tmp_path):
    kind, _, changes = SUPPORTED[name]
    tiny_architecture(kind, changes).save_pretrained(tmp_path / "start")
    tiny_tokenizer().save_pretrained(tmp_path / "start")
    lora = {"rank": 4, "alpha": 16.0, "dropout": 0.0}
    policy = load_learner(tmp_path / "start", dtype="float32", lora=lora)
    sft(policy, EPISODES, SftSettings(epochs=3, learning_rate=3e-2, batch_size=2, warmup_ratio=0.0))
    policy.save(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "start", dtype=torch.float32)
    ids = sequences(0)[0]
    assert float((plain_log_probs(saved, ids) - plain_log_probs(start, ids)).abs().max()) > 0.1
    assert_scored_alike(policy.model, saved, atol=1e-4, rtol=1e-4)
    assert_plays_as_generate(policy, saved)
