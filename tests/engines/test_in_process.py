"""The engine in this process: `transformers`' own actions, whatever is decoded beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
import transformers
from acting import OBSERVATIONS, PROMPT, SEEN
from playing import Talk, act_together
from tiny import trajectory

from eto.engines.actor import Actor
from eto.engines.in_process import InProcessEngine
from eto.errors import InputError, PromptTooLong
from eto.protocols import EngineFault
from eto.settings import SftSettings
from eto.training.cloning import sft
from eto.training.learner import Learner, load_learner
from eto.types import Message, Turn


def learner_of(path: Path, **options) -> Learner:
    return load_learner(path, **{"dtype": "float32", **options})


def play(learner: Learner, prompt=PROMPT, **options) -> list[tuple[int, ...]]:
    return Talk(learner.actor("a"), prompt, **options).play(SEEN)


def test_greedy_actions_are_those_of_generate(trained_path):
    learner = learner_of(trained_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(trained_path, dtype=torch.float32)
    talk, ends = Talk(learner.actor("a"), PROMPT), set()
    for observation in (*SEEN, "wait wait wait", "6 5 4"):
        before = list(talk.ids)
        turn = talk.act(observation)
        start = talk.ids[: len(talk.ids) - len(turn.action_ids)]
        assert start[: len(before)] == before
        expected = model.generate(
            torch.tensor([start]),
            attention_mask=torch.ones(1, len(start), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=learner.renderer.end_of_turn,
            pad_token_id=0,
        )[0, len(start) :].tolist()
        assert list(turn.action_ids) == expected
        assert turn.action == learner.renderer.text(expected)
        ends.add(turn.action_ids[-1])
    assert learner.renderer.end_of_turn in ends


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_log_probs_are_the_models_own_at_temperature_1(trained_path, temperature):
    learner = learner_of(trained_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(trained_path, dtype=torch.float32)
    talk = Talk(learner.actor("a"), PROMPT, temperature=temperature, seed=3)
    for observation in SEEN:
        turn = talk.act(observation)
        start = len(talk.ids) - len(turn.action_ids)
        with torch.no_grad():
            scores = model(torch.tensor([talk.ids])).logits[0].log_softmax(-1)
        expected = [float(scores[at - 1, talk.ids[at]]) for at in range(start, len(talk.ids))]
        assert list(turn.log_probs) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_played_conversation_renders_to_the_ids_it_had(trained_path, temperature):
    """Exploring and training see the same tokens, runaway actions included."""
    learner = learner_of(trained_path)
    talk = Talk(learner.actor("a"), PROMPT, max_tokens=4, temperature=temperature, seed=3)
    for observation in SEEN:
        talk.act(observation)
    actor, end = talk.actor, learner.renderer.end_of_turn
    played = trajectory(messages=PROMPT, turns=tuple(talk.turns), tokenizer=actor.tokenizer_id)
    rendered = learner.renderer.render(played)
    assert list(rendered.ids) == talk.ids
    assert sum(rendered.mask) == sum(len(t.action_ids) for t in talk.turns)
    if temperature:
        assert {t.action_ids[-1] == end for t in talk.turns} == {True, False}


@pytest.mark.parametrize("fast_paths", [True, False])
def test_sampling_depends_on_its_seed_alone(trained_path, fast_paths):
    learner = learner_of(trained_path)
    alone = play(learner, temperature=1.0, seed=5)
    assert alone != play(learner, temperature=1.0, seed=6)
    assert alone != play(learner)
    # Now among others that come and go, in a fresh engine whose kept prefix is another's.
    engine = InProcessEngine(learner.model, max_context=512, fast_paths=fast_paths)
    actor = Actor(engine, learner.renderer, "a")
    others = [
        Talk(actor, (Message("user", "look " * n),), temperature=2.0, seed=n, max_tokens=30)
        for n in (1, 2, 3)
    ]

    async def crowd():
        talk, turns, running = Talk(actor, PROMPT, temperature=1.0, seed=5), [], []
        running.append(asyncio.create_task(others[0].ask()))
        await asyncio.sleep(0.01)
        for number, observation in enumerate(SEEN):
            if number in (1, 2):
                running.append(asyncio.create_task(others[number].ask()))
            if number == 3:
                running[1].cancel()
            turns.append((await talk.ask(observation)).action_ids)
        await asyncio.gather(*running, return_exceptions=True)
        return turns

    assert asyncio.run(crowd()) == alone


def test_a_checkpoint_is_played_while_the_learner_trains_on(trained_path, tmp_path):
    """An engine of its own, given weights by their directory, acts as the learner did when it saved them."""
    learner = learner_of(trained_path)
    settings = SftSettings(epochs=1, learning_rate=4e-3, batch_size=1)
    sft(learner, [trajectory(("open the door", "A room."), ("wait", ""))], settings)
    then = {temperature: play(learner, temperature=temperature, seed=3) for temperature in (0.0, 1.0)}
    learner.save(tmp_path / "checkpoint")
    engine = InProcessEngine(learner_of(trained_path).model, max_context=512)
    asyncio.run(engine.load(tmp_path / "checkpoint"))
    frozen = Actor(engine, learner.renderer, "frozen")

    others = [trajectory(("take the apple", "Taken."), ("take the apple", ""), prompt="0 1 2 3")] * 8
    played = []
    for example in others:  # a conversation of the frozen agent goes on between the learner's steps
        sft(learner, [example], settings)
        played.append(Talk(frozen, PROMPT).play(SEEN))
    assert played == [then[0.0]] * len(others)
    assert Talk(frozen, PROMPT, temperature=1.0, seed=3).play(SEEN) == then[1.0]
    assert play(learner, temperature=1.0, seed=3) != then[1.0], "the learner has other weights by now"


def test_a_runaway_action_is_cut_and_closed(tiny_path):
    learner = learner_of(tiny_path)
    talk = Talk(learner.actor("a"), PROMPT, max_tokens=5)
    turn = talk.act()
    assert len(turn.action_ids) == 5
    assert learner.renderer.end_of_turn not in turn.action_ids
    before = list(talk.ids)
    talk.hear("a door")
    assert talk.ids[len(before)] == learner.renderer.end_of_turn
    assert talk.ids == before + learner.renderer.observation_ids("a door", closed=False)


def test_a_full_context_is_known(tiny_path):
    prompt = learner_of(tiny_path).renderer.prompt_ids(PROMPT)
    talk = Talk(learner_of(tiny_path, max_context=len(prompt) + 12).actor("a"), PROMPT)
    assert not talk.dialogue.full
    talk.act()
    talk.hear("a door")
    assert talk.dialogue.full


def test_what_does_not_fit_is_refused(tiny_path):
    prompt = learner_of(tiny_path).renderer.prompt_ids(PROMPT)
    with pytest.raises(PromptTooLong, match=f"the prompt takes {len(prompt)} tokens"):
        Talk(learner_of(tiny_path, max_context=len(prompt) + 11).actor("a"), PROMPT)
    with pytest.raises(InputError, match="max_context 513 is more than the model's 512"):
        learner_of(tiny_path, max_context=513)
    assert learner_of(tiny_path).max_context == 512


def test_new_weights_act(tiny_path, trained_path):
    learner = learner_of(tiny_path)
    untrained, before = play(learner), learner.actor("a")
    learner.load(trained_path)
    trained = play(learner)
    assert trained == play(learner_of(trained_path)) != untrained
    with torch.no_grad():
        learner.model.load_state_dict(learner_of(tiny_path).model.state_dict())
    learner.weights_changed()
    assert play(learner) == untrained
    fault = asyncio.run(before.engine.generate([1, 2], before.sampling(3)))
    assert isinstance(fault, EngineFault) and not fault.retryable, "it acts no more once its learner changed"


def test_weights_go_from_a_learner_to_an_engine_by_directory(tiny_path, trained_path):
    actor = learner_of(tiny_path).actor("a")
    talk = Talk(actor, PROMPT)
    first = talk.act()
    asyncio.run(actor.engine.load(trained_path))
    assert Talk(actor, PROMPT).play(SEEN) == play(learner_of(trained_path))
    assert Talk(actor, PROMPT).act().action_ids != first.action_ids


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapters_act_merged(trained_path):
    learner = learner_of(trained_path, lora={"rank": 4, "alpha": 8.0, "dropout": 0.0})
    base = play(learner)
    assert base == play(learner_of(trained_path))
    with torch.no_grad():
        for name, parameter in learner.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    learner.weights_changed()
    changed = play(learner)
    assert changed != base
    prompt = learner.renderer.prompt_ids(PROMPT)
    with torch.no_grad():
        expected = int(learner.model.eval()(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
    assert changed[0][0] == expected


def test_acting_in_bfloat16_leaves_the_weights_alone(trained_path):
    learner = learner_of(trained_path, dtype="bfloat16")
    assert len(play(learner)) == 5
    assert learner.model.dtype == torch.float32
    acting = learner.actor("a").engine.decoder.model
    assert acting.dtype == torch.bfloat16
    assert acting.model.rotary_emb.inv_freq.dtype == torch.float32, "positions as they were trained"


def test_a_cache_lives_from_turn_to_turn(trained_path):
    """A turn passes the last token and what was observed, not the conversation."""
    learner = learner_of(trained_path, drafting=False)
    counts: list[int] = []
    engine = learner.actor("a").engine
    engine.decoder.model.get_input_embeddings().register_forward_hook(
        lambda _m, given, _o: counts.append(given[0].numel())
    )
    talk = Talk(learner.actor("a"), PROMPT)
    talk.act()
    before = len(talk.ids)
    talk.hear("a door")
    counts.clear()
    turn = talk.act()
    assert counts[0] == len(talk.ids) - len(turn.action_ids) - before + 1
    assert set(counts[1:]) == {1}


def test_requests_of_one_moment_are_decoded_together(trained_path):
    learner = learner_of(trained_path, drafting=False)
    batches: list[int] = []
    decoder = learner.actor("a").engine.decoder
    step = decoder.step
    decoder.step = lambda batch: batches.append(len(batch)) or step(batch)
    talks = [Talk(learner.actor("a"), PROMPT, temperature=1.0, seed=n) for n in range(5)]
    for observation in SEEN:
        batches.clear()
        turns = act_together(talks, observation)
        lengths = sorted(len(turn.action_ids) for turn in turns)
        assert batches == [sum(length > at for length in lengths) for at in range(lengths[-1])]


def test_memory_that_ran_out_is_a_fault_of_these_requests(trained_path, monkeypatch):
    learner = learner_of(trained_path)
    whole = play(learner)
    talk = Talk(learner.actor("a"), PROMPT)
    first = talk.act()
    decoder = talk.actor.engine.decoder
    step = decoder.step

    def full(_batch):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    decoder.step = full
    talk.hear(OBSERVATIONS[0])
    fault = asyncio.run(talk.dialogue.act(talk.actor.sampling(12)))
    assert isinstance(fault, EngineFault) and fault.retryable
    decoder.step = step
    turn = asyncio.run(talk.dialogue.act(talk.actor.sampling(12)))
    assert [first.action_ids, turn.action_ids] == whole[:2], "the cache was made again"


def test_a_bug_raises_for_everyone_who_waits(trained_path):
    actor = learner_of(trained_path).actor("a")

    def broken(_batch):
        raise RuntimeError("shapes do not match")

    actor.engine.decoder.step = broken
    with pytest.raises(RuntimeError, match="shapes"):
        act_together([Talk(actor, PROMPT), Talk(actor, PROMPT)])


def test_no_model_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_learner(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json: model_type is missing"):
        load_learner(tmp_path)


def test_turns_of_its_own_lead_to_the_same_place(trained_path):
    """A dialogue that begins with turns goes on as the one that had them; so do texts without ids."""
    actor = learner_of(trained_path).actor("a")
    talk = Talk(actor, PROMPT)
    for observation in SEEN:
        talk.act(observation)
    known = talk.turns[:2]
    again = actor.dialogue(PROMPT, [*known], room=12)
    assert again.ids == talk.ids[: len(again.ids)]
    texts = actor.dialogue(PROMPT, [Turn(t.action, t.observation) for t in known], room=12)
    assert (
        texts.ids[: len(actor.renderer.talk(PROMPT).ids)] == again.ids[: len(actor.renderer.talk(PROMPT).ids)]
    )
    assert actor.renderer.text(texts.ids) == actor.renderer.text(again.ids)
