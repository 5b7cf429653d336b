"""The scripted engine: a function in place of a model."""

from __future__ import annotations

import pytest
from acting import PROMPT
from playing import Talk, act_together

from eto.engines.scripted import scripted_actor
from eto.errors import InputError
from eto.types import Message


def test_a_script_sees_the_conversation():
    seen = []

    def respond(messages):
        seen.append(messages)
        return f"action {len(messages)}"

    actor = scripted_actor(respond, name="expert")
    one, two = (Talk(actor, PROMPT, temperature=1.0, seed=3) for _ in range(2))
    assert [turn.action for turn in act_together([two, one])] == ["action 2", "action 2"]
    turn = one.act("a door")
    assert (turn.action, turn.action_ids, turn.log_probs) == ("action 4", None, None)
    assert seen[-1] == (*PROMPT, Message("assistant", "action 2"), Message("user", "a door"))
    assert (actor.name, actor.tokenizer_id) == ("expert", None)


@pytest.mark.parametrize("text", ["", "user", "two\nlines", "half \ud83d", "\N{GRINNING FACE}" * 100])
def test_any_text_passes(text):
    seen = []
    actor = scripted_actor(lambda messages: seen.append(messages) or text)
    talk = Talk(actor, [Message("user", text)])
    assert talk.act().action == text
    assert talk.act(text).action == text
    assert seen[-1] == (Message("user", text), Message("assistant", text), Message("user", text))


def test_an_answer_that_is_no_text_is_the_users_mistake():
    with pytest.raises(InputError, match="answered NoneType, not text"):
        Talk(scripted_actor(lambda _: None), PROMPT).act()
