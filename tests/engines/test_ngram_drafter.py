"""Guessed tokens save steps and change nothing."""

from __future__ import annotations

import copy

import pytest
from acting import PROMPT, SEEN
from playing import Talk
from test_decoder import family_model, plain_logits, random_ids
from tiny import trajectory

from eto.engines.in_process.conversation import Conversation
from eto.engines.in_process.decoder import Decoder, Predictions
from eto.engines.in_process.ngram_drafter import NgramDrafter
from eto.engines.in_process.sampling import Continuation
from eto.protocols import Sampling
from eto.settings import SftSettings
from eto.training.cloning import sft
from eto.training.learner import load_learner

END = 7


def test_what_was_seen_is_guessed():
    drafts = NgramDrafter()
    assert drafts.guess([1, 2, 3], 8, 1) == []
    for _ in range(9):
        drafts.learn([1, 2, 3, 4, 5, END], range(3, 6))
    assert drafts.guess([9, 9, 2, 3], 8, 1) == [4, 5, END]
    assert drafts.guess([9, 9, 2, 3], 2, 1) == [4, 5]
    assert drafts.guess([9, 9, 3], 8, 1) == [], "a context of one token tells nothing"


def test_a_guess_must_be_worth_its_token():
    drafts = NgramDrafter()
    for token in (4, 4, 4, 6):
        drafts.learn([1, 2, 3, token], [3])
    # 3 of 4 times, one more counted against it: 0.6.
    assert drafts.guess([1, 2, 3], 8, 32) == [4]
    assert drafts.guess([1, 2, 3], 8, 64) == []


def test_longer_contexts_go_first():
    drafts = NgramDrafter()
    for _ in range(9):
        drafts.learn([1, 1, 2, 3, 4], [4])
    drafts.learn([5, 5, 2, 3, 6], [4])
    assert drafts.guess([5, 5, 2, 3], 1, 1) == [6]


def next_tokens(model, ids: list[int], count: int) -> list[int]:
    ids = list(ids)
    for _ in range(count):
        ids.append(int(plain_logits(model, ids).argmax()))
    return ids[-count:]


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Gemma3"])
def test_right_and_wrong_guesses_give_the_models_own_tokens(family):
    model = family_model(family)
    decoder = Decoder(copy.deepcopy(model))
    ids = random_ids(20, 3)
    wanted = next_tokens(model, ids, 12)
    right, half, wrong = (Conversation([*ids, *wanted[:at]]) for at in range(3))
    batch = [right, half, wrong]
    requests = [Continuation(each, Sampling(100)) for each in batch]
    for _ in range(3):
        for conversation, rights in ((right, 3), (half, 1), (wrong, 0)):
            done = len(conversation.ids) - 20
            conversation.draft = [*wanted[done : done + rights], 433][:3]
        before = [len(each.ids) for each in (right, half, wrong)]
        for request, predictions in zip(requests, decoder.step(batch), strict=True):
            assert not request.extend(predictions)
            assert request.conversation.pending == 1
            assert request.conversation.draft == []
        taken = [len(each.ids) - was for each, was in zip(batch, before, strict=True)]
        if len(right.ids) < 30:
            assert taken == [4, 2, 1]
    for conversation in batch:
        done = len(conversation.ids) - 20
        assert conversation.ids[20:] == next_tokens(model, ids, done)


def test_an_action_ends_within_its_guesses():
    predictions = Predictions(None, [3, END, 5, 6], [-0.1, -0.2, -0.3, -0.4], [0.0] * 4)
    conversation = Conversation([1, 2], cached=2, draft=[3, END, 5])
    request = Continuation(conversation, Sampling(100, stop=(END,)))
    assert request.extend(predictions) and request.stopped
    assert (conversation.ids, request.ids, request.log_probs) == ([1, 2, 3, END], [3, END], [-0.1, -0.2])
    assert conversation.pending == 0
    conversation = Conversation([1, 2], cached=2, draft=[3, END, 5])
    short = Continuation(conversation, Sampling(1))
    assert short.extend(predictions) and not short.stopped
    assert (short.ids, conversation.pending) == ([3], 0)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_drafting_saves_steps_and_changes_no_action(trained_path, temperature):
    found, steps = [], []
    for drafting in (False, True):
        actor = load_learner(trained_path, dtype="float32", drafting=drafting).actor("a")
        decoder, taken = actor.engine.decoder, []
        step = decoder.step
        decoder.step = lambda batch, taken=taken, step=step: taken.append(1) or step(batch)
        actions = []
        for episode in range(6):
            actions += Talk(actor, PROMPT, temperature=temperature, seed=episode).play(SEEN)
        found.append(actions)
        steps.append(len(taken))
    assert found[0] == found[1]
    assert steps[1] < (0.7 if temperature == 0 else 0.95) * steps[0]


def test_what_was_cloned_is_guessed(tiny_path):
    policy = load_learner(tiny_path)
    expert = trajectory(("open door", "It is open."))
    sft(policy, [expert], SftSettings(epochs=1))
    rendered = policy.renderer.render(expert)
    first = rendered.turns.index(0)
    assert policy.drafter.guess(rendered.ids[:first], 1, 1) == [rendered.ids[first]]
    assert policy.drafter.guess(rendered.ids[: first - 1], 1, 1) == [], "observations are not guessed"
