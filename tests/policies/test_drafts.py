"""Guessed tokens save steps and change nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from test_engine import (
    OBSERVATIONS,
    PROMPT,
    act,
    acting,
    family_model,
    plain_logits,
    random_ids,
)
from test_engine import trained_path as trained_path
from tiny import trajectory

from eto.algorithms.sft import sft
from eto.policies.conversation import Conversation
from eto.policies.drafts import Drafts
from eto.policies.engine import Engine, extend
from eto.policies.transformers import load_policy
from eto.settings import SftSettings

END = 7


def test_what_was_seen_is_guessed():
    drafts = Drafts()
    assert drafts.guess([1, 2, 3], 8, 1) == []
    for _ in range(9):
        drafts.learn([1, 2, 3, 4, 5, END], range(3, 6))
    assert drafts.guess([9, 9, 2, 3], 8, 1) == [4, 5, END]
    assert drafts.guess([9, 9, 2, 3], 2, 1) == [4, 5]
    assert drafts.guess([9, 9, 3], 8, 1) == [], "a context of one token tells nothing"


def test_a_guess_must_be_worth_its_token():
    drafts = Drafts()
    for token in (4, 4, 4, 6):
        drafts.learn([1, 2, 3, token], [3])
    # 3 of 4 times, one more counted against it: 0.6.
    assert drafts.guess([1, 2, 3], 8, 32) == [4]
    assert drafts.guess([1, 2, 3], 8, 64) == []


def test_longer_contexts_go_first():
    drafts = Drafts()
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
    engine = Engine(copy.deepcopy(model))
    ids = random_ids(20, 3)
    wanted = next_tokens(model, ids, 12)
    right, half, wrong = (Conversation([*ids, *wanted[:at]]) for at in range(3))
    for _ in range(3):
        for conversation, rights in ((right, 3), (half, 1), (wrong, 0)):
            done = len(conversation.ids) - 20
            conversation.draft = [*wanted[done : done + rights], 433][:3]
        before = [len(each.ids) for each in (right, half, wrong)]
        batch = [right, half, wrong]
        for conversation, logits in zip(batch, engine.step(batch), strict=True):
            assert not extend(conversation, logits, (), 100)
            assert conversation.pending == 1
            assert conversation.draft == []
        taken = [len(each.ids) - was for each, was in zip(batch, before, strict=True)]
        if len(right.ids) < 30:
            assert taken == [4, 2, 1]
    for conversation in batch:
        done = len(conversation.ids) - 20
        assert conversation.ids[20:] == next_tokens(model, ids, done)


def test_an_action_ends_within_its_guesses():
    logits = torch.full((4, 10), -5.0)
    for row, token in enumerate((3, END, 5, 6)):
        logits[row, token] = 5.0
    conversation = Conversation([1, 2], cached=2, draft=[3, END, 5])
    assert extend(conversation, logits, (END,), 100)
    assert (conversation.ids, conversation.action) == ([1, 2, 3, END], [3, END])
    assert conversation.pending == 0
    short = Conversation([1, 2], cached=2, draft=[3, END, 5])
    assert extend(short, logits, (), 1)
    assert (short.action, short.pending) == ([3], 0)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_drafting_saves_steps_and_changes_no_action(trained_path, temperature):
    found, steps = [], []
    for drafting in (False, True):
        policy = acting(trained_path, drafting=drafting)
        polls, poll = [], policy.poll
        policy.poll = lambda polls=polls, poll=poll: polls.append(1) or poll()
        actions = []
        for episode in range(6):
            session = policy.open(PROMPT, temperature=temperature, seed=episode)
            actions += [act(policy, session, seen).action_ids for seen in (None, *OBSERVATIONS)]
            policy.release(session)
        found.append(actions)
        steps.append(len(polls))
    assert found[0] == found[1]
    assert steps[1] < (0.7 if temperature == 0 else 0.95) * steps[0]


def test_what_was_cloned_is_guessed(tiny_path):
    policy = load_policy(tiny_path)
    expert = trajectory(("open door", "It is open."))
    sft(policy, [expert], SftSettings(epochs=1))
    rendered = policy.renderer.render(expert)
    first = rendered.turns.index(0)
    assert policy._drafts.guess(rendered.ids[:first], 1, 1) == [rendered.ids[first]]
    assert policy._drafts.guess(rendered.ids[: first - 1], 1, 1) == [], "observations are not guessed"
