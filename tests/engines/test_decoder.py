"""The decoder against transformers' own forward pass."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from tiny import tiny_model, tiny_tokenizer

from eto.engines.in_process import attention as attention_module
from eto.engines.in_process import conversation as conversation_module
from eto.engines.in_process.conversation import Conversation, common_prefix
from eto.engines.in_process.decoder import Decoder
from eto.errors import InputError
from eto.training.learner import Learner

VOCABULARY = 434
FAMILIES = {
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Qwen2": {},
    "Qwen3": {"head_dim": 24},
    "Gemma3": {
        "config": "Gemma3TextConfig",
        "head_dim": 32,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "Granite": {"logits_scaling": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5},
    "Cohere": {"logit_scale": 0.25},
    "Phi3": {},
    "Olmo2": {},
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def family_model(family: str):
    changes = dict(FAMILIES[family])
    config = changes.pop("config", f"{family}Config")
    model = getattr(transformers, f"{family}ForCausalLM")
    return tiny_model(VOCABULARY, model, getattr(transformers, config), **changes).eval()


def plain_logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1]


def random_ids(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=generator).tolist()


def assert_exact(decoder: Decoder, model, batch: list[Conversation]) -> None:
    for predictions, conversation in zip(decoder.step(batch), batch, strict=True):
        rows = predictions.logits
        assert conversation.pending == 0
        assert len(rows) == 1 + len(conversation.draft)
        assert predictions.likeliest == rows.argmax(-1).tolist()
        scores = rows.log_softmax(-1)
        assert predictions.log_probs == pytest.approx(scores.amax(-1).tolist(), abs=1e-5)
        assert predictions.totals == pytest.approx(rows.logsumexp(-1).tolist(), abs=1e-5)
        for guessed, row in enumerate(rows):
            ids = conversation.ids + conversation.draft[:guessed]
            torch.testing.assert_close(row, plain_logits(model, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("largest_plain", [0, attention_module.LARGEST_PLAIN], ids=["fused", "plain"])
@every_family
def test_mixed_prefilling_and_decoding_is_exact(family, largest_plain, monkeypatch):
    """Conversations join, get observations or single tokens, sit out steps, and leave."""
    monkeypatch.setattr(conversation_module, "GROWTH", 16)
    monkeypatch.setattr(attention_module, "LARGEST_PLAIN", largest_plain)
    model = family_model(family)
    decoder = Decoder(copy.deepcopy(model))
    one, two, three = (Conversation(random_ids(n, n)) for n in (5, 21, 13))
    assert_exact(decoder, model, [one])
    one.ids += random_ids(1, 50)
    assert_exact(decoder, model, [two, one])
    for number, batch in enumerate(([one, two], [two, three], [three, two, one], [one], [three, one])):
        for conversation in batch:
            if conversation.cached:
                # By turns a sampled token and an observation.
                count = 1 if (number + len(conversation.ids)) % 2 else 9
                conversation.ids += random_ids(count, len(conversation.ids))
        assert_exact(decoder, model, batch)


def passed_tokens(decoder: Decoder) -> list[int]:
    """Grows by the number of tokens of every forward pass."""
    counts: list[int] = []
    embeddings = decoder.model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, inputs, _output: counts.append(inputs[0].numel()))
    return counts


@every_family
def test_a_shared_prefix_is_computed_once_and_exact(family):
    model = family_model(family)
    decoder = Decoder(copy.deepcopy(model))
    decoder._groups.count = 1
    counts = passed_tokens(decoder)
    shared = random_ids(20, 0)
    batch = [Conversation(shared + random_ids(n, n)) for n in (4, 6, 9)]
    assert_exact(decoder, model, batch)
    assert counts == [24 + 6 + 9], "one pass: the first whole, of the others what differs"
    counts.clear()
    late, same, other = (
        Conversation([*shared[:15], 3]),
        Conversation(list(batch[0].ids)),
        Conversation([1, 2]),
    )
    assert_exact(decoder, model, [late, same, other])
    assert sum(counts) == 1 + 1 + 2
    for conversation in (*batch, late, same, other):
        conversation.ids += random_ids(3, 99)
    assert_exact(decoder, model, [*batch, late, same, other])


@every_family
def test_a_new_conversation_takes_over_what_another_has_passed(family):
    """More than the first prompt: the past of any conversation that is still held."""
    model = family_model(family)
    decoder = Decoder(copy.deepcopy(model))
    first, held = Conversation(random_ids(12, 0)), Conversation(random_ids(30, 1))
    assert_exact(decoder, model, [first, held])
    held.ids += random_ids(9, 2)
    assert_exact(decoder, model, [held])
    counts = passed_tokens(decoder)
    alike = Conversation([*held.ids[:35], *random_ids(4, 3)])
    assert_exact(decoder, model, [alike])
    assert sum(counts) == 4
    held.cache = None  # released
    counts.clear()
    alone = Conversation([*held.ids[:30], 3])
    alike.cache = None
    assert_exact(decoder, model, [alone])
    assert sum(counts) == 31, "only the first of all is kept"


def test_new_conversations_of_one_step_share_among_themselves(threads):
    threads(2)  # a beginning is passed once a lane
    model = family_model("Llama")
    decoder = Decoder(copy.deepcopy(model))
    decoder.step([Conversation(random_ids(12, 0))])
    counts = passed_tokens(decoder)
    kinds = [random_ids(20, 1), random_ids(20, 2)]
    batch = [Conversation([*kinds[n % 2], *random_ids(3, 10 + n)]) for n in range(6)]
    assert_exact(decoder, model, batch)
    assert sum(counts) == 2 * 23 + 4 * 3


def test_a_short_prefix_is_not_copied():
    model = family_model("Llama")
    decoder = Decoder(copy.deepcopy(model))
    counts = passed_tokens(decoder)
    assert_exact(decoder, model, [Conversation([1, 2, 3, 4]), Conversation([1, 2, 3, 5])])
    assert sum(counts) == 4 + 4


def test_common_prefix():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2, 3], [1, 2]) == 2
    assert common_prefix([], [1]) == 0


SMALL = {"num_hidden_layers": 2, "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": None}


@pytest.mark.parametrize(
    ("family", "changes", "problem"),
    [
        ("Gemma2", {**HEADS, "head_dim": 16}, "soft-capped attention"),
        ("GptOss", {**HEADS, "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1}, "sinks"),
        ("Mamba", {}, "linear_attention"),
        ("Lfm2", {**HEADS, "layer_types": ["conv", "full_attention"]}, "conv"),
    ],
)
def test_more_than_attention_is_refused(family, changes, problem):
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **changes})
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with pytest.raises(InputError, match=problem):
        Decoder(model)
    with pytest.raises(InputError, match=problem):
        Learner(model, tiny_tokenizer())


def test_a_text_is_scored_with_nothing_that_is_cached(tiny_policy):
    """As the model's own forward pass scores it, after other conversations as before them."""
    ids = list(range(40, 70))
    with torch.no_grad():
        rows = tiny_policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(rows[at, token]) for at, token in enumerate(ids[1:])]
    decoder = Decoder(copy.deepcopy(tiny_policy.model))
    before = decoder.score(ids)
    decoder.step([Conversation(list(range(40, 60)))])
    assert decoder.score(ids) == before == pytest.approx(expected, abs=1e-4)
    decoder.close()
