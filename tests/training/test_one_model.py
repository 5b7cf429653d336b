"""Four models are one: in training before its first step, acting, as reference, and read from its folder.

In fp32 log-probs agree to 1e-4. In bfloat16 neighbouring logits of about ten are 2**-4 apart; each of the
four rounds in another order, and merging rounds adapters into the weights. There they agree to one such
step on average, and to four at most.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import save_tiny, trajectory
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from eto.engines.in_process.acting_model import acting_copy
from eto.engines.in_process.conversation import Conversation
from eto.engines.in_process.decoder import Decoder
from eto.settings import TrainingSettings
from eto.training.backends.core_groups import grouped_log_probs
from eto.training.cloning import sft_example
from eto.training.learner import Learner, load_learner
from eto.types import Trajectory

EPISODE = trajectory(
    *(("open the door", "The door is now open."), ("take the apple", "Nothing happens."), ("wait", "10")),
    ("look around", ""),
)
BF16_STEP = 2**-4
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0}
FORMS = {
    "full": None,
    "lora": LORA,
    "lora, two modules": {**LORA, "target_modules": ["q_proj", "down_proj"]},
    "lora, output layer": {**LORA, "target_modules": ["v_proj", "lm_head"]},
    "lora, embeddings": {**LORA, "target_modules": ["v_proj", "embed_tokens"]},
}
CASES = [
    (form, tied, dtype)
    for form in FORMS
    for tied in (False, True)
    for dtype in ("float32", "bfloat16")
    if not (tied and form in ("lora, output layer", "lora, embeddings"))  # refused: test_checkpoints.py
]


def disturb_adapters(policy: Learner) -> None:
    """Adapters as after some training; fresh ones change nothing."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:
                weight.normal_(std=0.05)
    policy.weights_changed()


def in_training(policy: Learner, episode: Trajectory) -> torch.Tensor:
    """Log-probs that the loss sees in the first step."""
    seen: list[torch.Tensor] = []

    def objective(_example, outputs):
        seen.append(outputs[0].log_probs.detach().clone())
        return outputs[0].log_probs.sum(), {}

    settings = TrainingSettings(epochs=1, learning_rate=1e-9, warmup_ratio=0.0)
    next(iter(policy.fit([sft_example(policy, episode)], objective, settings)))
    return seen[0]


def acting(policy: Learner, ids: list[int], wanted: np.ndarray) -> torch.Tensor:
    """Log-probs under the engine's logits, with all tokens as guesses."""
    decoder = Decoder(acting_copy(policy.model, policy.dtype))
    [predictions] = decoder.step([Conversation(ids=ids[:1], draft=ids[1:])])
    decoder.close()
    return of_tokens(predictions.logits, ids, wanted)


def of_tokens(logits: torch.Tensor, ids: list[int], wanted: np.ndarray) -> torch.Tensor:
    scores = logits[:-1].float().log_softmax(-1).gather(-1, torch.tensor(ids)[1:, None])[:, 0]
    return scores[torch.from_numpy(wanted[1:])]


def four(policy: Learner, episode: Trajectory, folder) -> dict[str, torch.Tensor]:
    example, rendered = sft_example(policy, episode), policy.renderer.render(episode)
    ids, wanted = list(rendered.ids), np.asarray(rendered.turns) >= 0
    policy.save(folder)
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=policy.dtype)
    with torch.no_grad():
        plain = saved(input_ids=torch.tensor([ids])).logits[0]
    [[reference]] = grouped_log_probs(policy.model, [example.tree], policy.dtype, 10**6)
    return {
        "saved": of_tokens(plain, ids, wanted),
        "training": in_training(policy, episode),
        "acting": acting(policy, ids, wanted),
        "reference": torch.from_numpy(reference),
    }


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("form", "tied", "dtype"), CASES)
def test_four_models_are_one(tmp_path, form, tied, dtype):
    start = save_tiny(tmp_path / "start", tie_word_embeddings=tied)
    policy = load_learner(start, dtype=dtype, lora=FORMS[form])
    disturb_adapters(policy)
    found = four(policy, EPISODE, tmp_path / "saved")
    if FORMS[form]:
        before = four(load_learner(start, dtype=dtype), EPISODE, tmp_path / "before")["saved"]
        assert float((found["saved"] - before).abs().max()) > 0.3, "adapters that do nothing show nothing"
    agree(found, dtype)


def agree(found: dict[str, torch.Tensor], dtype: str) -> None:
    expected = found.pop("saved")
    assert len(expected) > 10
    for log_probs in found.values():
        if dtype == "float32":
            assert_close(log_probs, expected, atol=1e-4, rtol=1e-4)
        else:
            assert float((log_probs - expected).abs().max()) < 4 * BF16_STEP
            assert float((log_probs - expected).abs().mean()) < BF16_STEP


# -- a model that was trained -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_trained_model_generates_as_it_did_before(tmp_path, lora):
    policy = load_learner(save_tiny(tmp_path), dtype="float32", lora=lora)
    prompt = torch.tensor([policy.renderer.prompt_ids(EPISODE.messages)])

    def generated() -> list[int]:
        return policy.model.generate(prompt, do_sample=False, max_new_tokens=8, pad_token_id=0)[0].tolist()

    expected = generated()
    in_training(policy, EPISODE)
    grouped_log_probs(policy.model, [sft_example(policy, EPISODE).tree], torch.float32, 10**6)
    assert policy.model.config._attn_implementation == "sdpa"
    assert generated() == expected
