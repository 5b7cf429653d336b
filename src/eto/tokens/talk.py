"""A conversation as the agent reads it, turn after turn: the same for acting and for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eto.errors import InputError
from eto.tokens.chat_template import WHERE, ChatTemplate
from eto.tokens.turn_forms import TurnForm, difference
from eto.tokens.turns import Tools, check_shown, check_tools, fitting, written_turn
from eto.types import Message, Turn


class Talk:
    """What the template writes for each turn, and whether it goes on from what came before.

    `ids` are those of the prompt. Where the template writes past turns as they were written,
    each step only appends. Where it does not, the conversation is laid out again; with `keep`
    past turns stay as they were written anyway.
    """

    def __init__(
        self,
        template: ChatTemplate,
        form: TurnForm,
        messages: Sequence[Message],
        tools: Tools = (),
        *,
        keep: bool = False,
        say: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """`say(kind, text)`: called for each difference, the same kind again and again.

        Raises `InputError` where the template does not show a message or the tools.
        """
        if not messages or messages[-1].role == "assistant":
            raise InputError("a prompt must end on a user or system message", where="messages")
        self._template, self._form, self._tools, self._keep, self._say = template, form, tools, keep, say
        self._system = [message for message in messages if message.role == "system"]
        self._begin(messages)
        self.ids = template.encoding.encode(self._prompt)

    def _begin(self, messages: Sequence[Message]) -> None:
        """Lay out a prompt, with nothing before it."""
        template, form, tools = self._template, self._form, self._tools
        self._messages = fitting(messages, form)
        self._prompt = template.text(self._messages, generate=True, tools=tools)
        check_shown(self._messages, self._prompt, template.encoding)
        if tools:
            check_tools(template, tools, self._prompt)
        self._text = self._prompt
        self._body, self._end = "", form.end

    def sampled(self, action: Sequence[int]) -> None:
        """The agent has written these ids."""
        closed = bool(action) and action[-1] == self._form.end
        body = self._template.encoding.decode(action[:-1] if closed else action)
        self._body, self._end = self._template.encoding.quote(body, agent=True), self._form.end

    def written(self, turn: Turn) -> list[int]:
        """Ids with which the agent writes `turn`, end-of-turn token included."""
        said = fitting([message_of(turn)], self._form)[0]
        template, encoding = self._template, self._template.encoding
        self._body, self._end = written_turn(
            template, self._form, self._messages, said, self._tools, self._prompt
        )
        self._end = self._end_by_answer([*self._messages, said, *answers_of(turn)])
        return [*encoding.encode_after(self._prompt, self._body), self._end]

    def _end_by_answer(self, talk: Sequence[Message]) -> int:
        """Where a turn ends on the token that opens what comes back, which depends on who answers."""
        form, encoding = self._form, self._template.encoding
        if self._end != form.end or form.ends_turn or talk[-1] == Message("user", ""):
            return self._end
        whole = self._template.text(talk, generate=True, tools=self._tools)
        ours = self._prompt + self._body
        match = encoding.spelt.match(whole[len(ours) :].lstrip()) if whole.startswith(ours) else None
        return encoding.id_of(match[0]) if match else self._end

    def go_on(self, action: Sequence[int], turn: Turn) -> tuple[bool, list[int]]:
        """After `turn`, written as the ids `action`, and its observation.

        -> (True, ids that follow), or (False, all ids of the conversation again), also where `turn` has
        the next one begin afresh. An action that was cut gets its end-of-turn token among those that follow,
        outside the loss.
        """
        encoding, form = self._template.encoding, self._form
        answers = answers_of(turn)
        if turn.afresh:
            self._begin([*self._system, *answers])
            return False, encoding.encode_again(self._prompt)
        self._messages += fitting([message_of(turn), *answers], form)
        self._prompt = self._template.text(self._messages, generate=True, tools=self._tools)
        end_text = form.end_text if self._end == form.end else encoding.special.get(self._end, "")
        ours = self._text + self._body + end_text
        goes_on = bool(end_text) and self._prompt.startswith(ours)
        missing = [] if action and action[-1] == self._end else [self._end]
        if goes_on:
            rest = self._prompt[len(ours) :]
        elif self._keep:
            rest = self._kept(turn, ours)
        else:
            self._say("rewritten", difference(ours, self._prompt, "the agent wrote", "the template writes"))
            check_shown(self._messages, self._prompt, encoding)
            self._text = self._prompt
            return False, encoding.encode_again(self._prompt)
        check_shown(answers, rest, encoding)
        self._text = ours + rest
        return True, missing + encoding.encode(rest)

    def _kept(self, turn: Turn, ours: str) -> str:
        """What follows an append-only conversation that the template would write otherwise."""
        if turn.answers or turn.tool_calls:
            raise InputError(
                "function calls cannot be kept as they were written with this chat template",
                where=WHERE,
                hint="set model.thoughts to auto",
            )
        self._say("kept", difference(ours, self._prompt, "the agent wrote", "the template writes"))
        form, text = self._form, self._template.encoding.quote(turn.observation)
        return form.after_end + (text.strip() if form.trims_user else text) + form.before_action


def message_of(turn: Turn) -> Message:
    """What the agent said in a turn."""
    return Message("assistant", turn.action, reasoning=turn.reasoning, tool_calls=turn.tool_calls)


def answers_of(turn: Turn) -> tuple[Message, ...]:
    """What came back."""
    return turn.answers or (Message("user", turn.observation),)
