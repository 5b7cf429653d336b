"""The engine against transformers' own forward pass and generation, and the policy built on it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import SafetensorError
from tiny import tiny_model, tiny_tokenizer, trajectory

from eto.algorithms.sft import sft
from eto.errors import InputError, MissingRequirement
from eto.policies import conversation as conversation_module
from eto.policies import engine as engine_module
from eto.policies.conversation import Conversation, common_prefix
from eto.policies.engine import Engine
from eto.policies.scripted import ScriptedPolicy
from eto.policies.transformers import TransformersPolicy, load_policy
from eto.protocols import ReplyEnd
from eto.settings import SftSettings
from eto.types import Message, Turn

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


def assert_exact(engine: Engine, model, batch: list[Conversation]) -> None:
    for rows, conversation in zip(engine.step(batch), batch, strict=True):
        assert conversation.pending == 0
        assert len(rows) == 1 + len(conversation.draft)
        for guessed, row in enumerate(rows):
            ids = conversation.ids + conversation.draft[:guessed]
            torch.testing.assert_close(row, plain_logits(model, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("largest_plain", [0, engine_module.LARGEST_PLAIN], ids=["fused", "plain"])
@every_family
def test_mixed_prefilling_and_decoding_is_exact(family, largest_plain, monkeypatch):
    """Conversations join, get observations or single tokens, sit out steps, and leave."""
    monkeypatch.setattr(conversation_module, "GROWTH", 16)
    monkeypatch.setattr(engine_module, "LARGEST_PLAIN", largest_plain)
    model = family_model(family)
    engine = Engine(copy.deepcopy(model))
    one, two, three = (Conversation(random_ids(n, n)) for n in (5, 21, 13))
    assert_exact(engine, model, [one])
    one.ids += random_ids(1, 50)
    assert_exact(engine, model, [two, one])
    for number, batch in enumerate(([one, two], [two, three], [three, two, one], [one], [three, one])):
        for conversation in batch:
            if conversation.cached:
                # By turns a sampled token and an observation.
                count = 1 if (number + len(conversation.ids)) % 2 else 9
                conversation.ids += random_ids(count, len(conversation.ids))
        assert_exact(engine, model, batch)


def passed_tokens(engine: Engine) -> list[int]:
    """Grows by the number of tokens of every forward pass."""
    counts: list[int] = []
    embeddings = engine.model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, inputs, _output: counts.append(inputs[0].numel()))
    return counts


@every_family
def test_a_shared_prefix_is_computed_once_and_exact(family):
    model = family_model(family)
    engine = Engine(copy.deepcopy(model))
    engine._lanes.count = 1
    counts = passed_tokens(engine)
    shared = random_ids(20, 0)
    batch = [Conversation(shared + random_ids(n, n)) for n in (4, 6, 9)]
    assert_exact(engine, model, batch)
    assert counts == [24 + 6 + 9], "one pass: the first whole, of the others what differs"
    counts.clear()
    late, same, other = (
        Conversation([*shared[:15], 3]),
        Conversation(list(batch[0].ids)),
        Conversation([1, 2]),
    )
    assert_exact(engine, model, [late, same, other])
    assert sum(counts) == 1 + 1 + 2
    for conversation in (*batch, late, same, other):
        conversation.ids += random_ids(3, 99)
    assert_exact(engine, model, [*batch, late, same, other])


@every_family
def test_a_new_conversation_takes_over_what_another_has_passed(family):
    """More than the first prompt: the past of any conversation that is still held."""
    model = family_model(family)
    engine = Engine(copy.deepcopy(model))
    first, held = Conversation(random_ids(12, 0)), Conversation(random_ids(30, 1))
    assert_exact(engine, model, [first, held])
    held.ids += random_ids(9, 2)
    assert_exact(engine, model, [held])
    counts = passed_tokens(engine)
    alike = Conversation([*held.ids[:35], *random_ids(4, 3)])
    assert_exact(engine, model, [alike])
    assert sum(counts) == 4
    held.cache = None  # released
    counts.clear()
    alone = Conversation([*held.ids[:30], 3])
    alike.cache = None
    assert_exact(engine, model, [alone])
    assert sum(counts) == 31, "only the first of all is kept"


def test_new_conversations_of_one_step_share_among_themselves(threads):
    threads(2)  # a beginning is passed once a lane
    model = family_model("Llama")
    engine = Engine(copy.deepcopy(model))
    engine.step([Conversation(random_ids(12, 0))])
    counts = passed_tokens(engine)
    kinds = [random_ids(20, 1), random_ids(20, 2)]
    batch = [Conversation([*kinds[n % 2], *random_ids(3, 10 + n)]) for n in range(6)]
    assert_exact(engine, model, batch)
    assert sum(counts) == 2 * 23 + 4 * 3


def test_a_short_prefix_is_not_copied():
    model = family_model("Llama")
    engine = Engine(copy.deepcopy(model))
    counts = passed_tokens(engine)
    assert_exact(engine, model, [Conversation([1, 2, 3, 4]), Conversation([1, 2, 3, 5])])
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
        Engine(model)
    with pytest.raises(InputError, match=problem):
        TransformersPolicy(model, tiny_tokenizer())


# -- the policy ---------------------------------------------------------------------------

PROMPT = (Message("system", "You see a cup."), Message("user", "Begin."))
OBSERVATIONS = ("You are in the kitchen.", "a door", "The door is now open.", "Nothing happens. " * 5)


@pytest.fixture(scope="module")
def trained_path(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt to end its turns."""
    learner = load_policy(tiny_path, dtype="float32")
    actions = ("go north", "open the door", "take the apple", "look around")
    episodes = [
        trajectory(*[(actions[(n + k) % 4], OBSERVATIONS[k]) for k in range(4)], prompt=f"{n}")
        for n in range(6)
    ]
    sft(learner, episodes, SftSettings(epochs=8, learning_rate=4e-3, batch_size=3))
    path = tmp_path_factory.mktemp("trained")
    learner.save(path)
    return path


def acting(path: Path, **options) -> TransformersPolicy:
    return load_policy(path, **{"dtype": "float32", "max_action_tokens": 12, **options})


def act(policy, session, observation: str | None = None):
    """The next reply of `session`, everything submitted moving along."""
    policy.submit(session, observation)
    while True:
        for reply in policy.poll():
            if reply.session is session:
                return reply


def play(policy, prompt=PROMPT, **options) -> list:
    session = policy.open(prompt, **options)
    return [act(policy, session, observation) for observation in (None, *OBSERVATIONS)]


def test_greedy_actions_are_those_of_generate(trained_path):
    policy = acting(trained_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(trained_path, dtype=torch.float32)
    session = policy.open(PROMPT)
    ends = set()
    for observation in (None, *OBSERVATIONS, "wait wait wait", "6 5 4"):
        before = list(session.ids)
        reply = act(policy, session, observation)
        start = session.ids[: len(session.ids) - len(reply.action_ids)]
        assert start[: len(before)] == before
        expected = model.generate(
            torch.tensor([start]),
            attention_mask=torch.ones(1, len(start), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=policy.renderer.end_of_turn,
            pad_token_id=0,
        )[0, len(start) :].tolist()
        assert list(reply.action_ids) == expected
        assert reply.action == policy.renderer.text(expected)
        ends.add(reply.end)
    assert ReplyEnd.END_OF_TURN in ends


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_played_conversation_renders_to_the_ids_it_had(trained_path, temperature):
    """Exploring and training see the same tokens, runaway actions included."""
    policy = acting(trained_path, max_action_tokens=4)
    session = policy.open(PROMPT, temperature=temperature, seed=3)
    turns, ends = [], set()
    for observation in (None, *OBSERVATIONS):
        reply = act(policy, session, observation)
        turns.append(Turn(reply.action, "", 0.0, reply.action_ids))
        ends.add(reply.end)
    given = [*OBSERVATIONS, ""]
    turns = tuple(Turn(t.action, o, 0.0, t.action_ids) for t, o in zip(turns, given, strict=True))
    played = trajectory(messages=PROMPT, turns=turns, tokenizer=policy.tokenizer_id)
    rendered = policy.renderer.render(played)
    assert list(rendered.ids) == session.ids
    assert sum(rendered.mask) == sum(len(t.action_ids) for t in turns)
    if temperature:
        assert ends == {ReplyEnd.END_OF_TURN, ReplyEnd.LENGTH}


def test_sampling_depends_on_its_seed_alone(trained_path):
    policy = acting(trained_path)
    alone = [reply.action_ids for reply in play(policy, temperature=1.0, seed=5)]
    assert alone != [reply.action_ids for reply in play(policy, temperature=1.0, seed=6)]
    assert alone != [reply.action_ids for reply in play(policy)]
    # Now among others that come and go, in a fresh engine whose kept prefix is another's.
    policy.weights_changed()
    others = [policy.open((Message("user", "look " * n),), temperature=2.0, seed=n) for n in range(1, 4)]
    policy.submit(others[0])
    policy.poll()
    session = policy.open(PROMPT, temperature=1.0, seed=5)
    found = []
    for number, observation in enumerate((None, *OBSERVATIONS)):
        if number in (1, 2):
            policy.submit(others[number])
        if number == 3:
            policy.release(others[1])
        found.append(act(policy, session, observation).action_ids)
    assert found == alone


def test_a_runaway_action_is_cut_and_closed(tiny_path):
    policy = acting(tiny_path, max_action_tokens=5)
    session = policy.open(PROMPT)
    reply = act(policy, session)
    assert reply.end is ReplyEnd.LENGTH
    assert len(reply.action_ids) == 5
    assert policy.renderer.end_of_turn not in reply.action_ids
    before = list(session.ids)
    policy.submit(session, "a door")
    assert session.ids[len(before)] == policy.renderer.end_of_turn
    assert session.ids == before + policy.renderer.observation_ids("a door", closed=False)


def test_a_full_context_ends_the_conversation(tiny_path):
    prompt = acting(tiny_path).open(PROMPT).ids
    policy = acting(tiny_path, max_context=len(prompt) + 12)
    session, other = policy.open(PROMPT), policy.open(PROMPT)
    policy.submit(other)
    assert act(policy, session).end is ReplyEnd.LENGTH
    policy.submit(session, "a door")
    [reply] = policy.poll()
    assert (reply.session, reply.action_ids, reply.end) == (session, None, ReplyEnd.CONTEXT)
    assert policy.poll() == []
    assert len(session.ids) > policy.max_context - policy.max_action_tokens


def test_what_does_not_fit_is_refused(tiny_path):
    prompt = acting(tiny_path).open(PROMPT).ids
    with pytest.raises(InputError, match=f"the prompt takes {len(prompt)} tokens"):
        acting(tiny_path, max_context=len(prompt) + 11).open(PROMPT)
    with pytest.raises(InputError, match="max_context 513 is more than the model's 512"):
        acting(tiny_path, max_context=513)
    assert acting(tiny_path).max_context == 512


def test_a_released_conversation_gets_no_reply(tiny_path):
    policy = acting(tiny_path)
    gone, kept = policy.open(PROMPT), policy.open(PROMPT)
    policy.submit(gone)
    policy.submit(kept)
    policy.poll()
    policy.release(gone)
    assert gone.cache is None
    replies = [reply for _ in range(12) for reply in policy.poll()]
    assert [reply.session for reply in replies] == [kept]


def test_new_weights_act(tiny_path, trained_path):
    policy = acting(tiny_path)
    untrained = [reply.action_ids for reply in play(policy)]
    policy.reload(trained_path)
    trained = [reply.action_ids for reply in play(policy)]
    assert trained == [reply.action_ids for reply in play(acting(trained_path))]
    assert trained != untrained
    with torch.no_grad():
        policy.model.load_state_dict(acting(tiny_path).model.state_dict())
    policy.weights_changed()
    assert [reply.action_ids for reply in play(policy)] == untrained


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapters_act_merged(trained_path):
    policy = acting(trained_path, lora={"rank": 4, "alpha": 8.0, "dropout": 0.0})
    base = [reply.action_ids for reply in play(policy)]
    assert base == [reply.action_ids for reply in play(acting(trained_path))]
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    policy.weights_changed()
    replies = play(policy)
    assert [reply.action_ids for reply in replies] != base
    prompt = policy.renderer.prompt_ids(PROMPT)
    expected = int(plain_logits(policy.model.eval(), prompt).argmax())
    assert replies[0].action_ids[0] == expected


def test_acting_in_bfloat16_leaves_the_weights_alone(trained_path):
    policy = acting(trained_path, dtype="bfloat16")
    assert len(play(policy)) == 5
    assert policy.model.dtype == torch.float32
    assert policy._engine.model.dtype == torch.bfloat16


def test_no_model_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json: model_type is missing"):
        load_policy(tmp_path)


# -- the scripted policy ------------------------------------------------------------------


def test_a_script_sees_the_conversation():
    seen = []

    def respond(messages):
        seen.append(messages)
        return f"action {len(messages)}"

    policy = ScriptedPolicy(respond, name="expert")
    one, two, gone = (policy.open(PROMPT, temperature=1.0, seed=3) for _ in range(3))
    for session in (two, one, gone):
        policy.submit(session)
    policy.release(gone)
    replies = policy.poll()
    assert [(r.session, r.action, r.action_ids, r.end) for r in replies] == [
        (two, "action 2", None, ReplyEnd.END_OF_TURN),
        (one, "action 2", None, ReplyEnd.END_OF_TURN),
    ]
    assert policy.poll() == []
    policy.submit(one, "a door")
    assert [r.action for r in policy.poll()] == ["action 4"]
    assert seen[-1] == (*PROMPT, Message("assistant", "action 2"), Message("user", "a door"))
    assert (policy.name, policy.tokenizer_id) == ("expert", None)


def test_acting_in_bfloat16_attends_to_the_positions_that_were_trained(trained_path):
    policy = acting(trained_path, dtype="bfloat16")
    play(policy)
    assert policy._engine.model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_full_disk_is_told_when_a_model_is_saved(tiny_path, tmp_path, monkeypatch):
    policy = acting(tiny_path)

    def full(*_args, **_kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(policy.model, "save_pretrained", full)
    with pytest.raises(MissingRequirement, match="out"):
        policy.save(tmp_path / "out")
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(InputError, match="file"):
        policy.save(tmp_path / "file" / "out")
