"""Trajectory -> token ids and loss mask: the only place where masks are made.

A conversation is laid out as segments that are tokenised once, one by one, and only
ever appended: prompt, action, observation, action, ... The pieces of the model's chat
template that stand between them are found by rendering a probe conversation, so any
template whose pieces do not depend on the text works, with or without generation
markers. Special tokens come from the template alone: text that spells one, in a prompt,
an observation or an action, is encoded as the plain text it is. Exploring and training
call the same functions, and ids that an engine sampled are used again as they are:
nothing is decoded and encoded anew in between.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from eto.errors import InputError, NothingLeft
from eto.types import Message, Trajectory

PLAIN_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '### ' + m['role'] + '\n' + m['content'] + (eos_token if m['role'] == 'assistant' else '') + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
"""Default for tokenizers without a chat template: a `### role` line, the text, and the
end-of-text token after each assistant message."""

NOT_AGENT = -1

BREAK = "\ufdd0"
"""Put inside text that spells a special token; encoding stops and starts anew there. A
Unicode noncharacter, which no text may contain."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One trajectory as tokens."""

    ids: tuple[int, ...]
    turns: tuple[int, ...]
    """For each token the number of the agent's turn it belongs to, or -1. The loss mask
    is `turn >= 0`: action tokens and their end-of-turn token, nothing else."""
    dropped_turns: int = 0
    """Turns left out at the end because they did not fit."""

    @property
    def mask(self) -> tuple[int, ...]:
        return tuple(int(turn >= 0) for turn in self.turns)


class Renderer:
    """Lays conversations out as token ids for one tokenizer and its chat template."""

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template or getattr(tokenizer, "chat_template", None) or PLAIN_TEMPLATE
        added = getattr(tokenizer, "added_tokens_decoder", {})
        named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        # A family's end of turn is often special without being one of the named tokens.
        self._special = dict(named) | {i: token.content for i, token in added.items() if token.special}
        longest_first = sorted(self._special.values(), key=len, reverse=True)
        self._spelt = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._takes_system = self._shows_system()
        self._find_pieces()
        self.fingerprint = self._fingerprint()

    # -- segments ---------------------------------------------------------------------

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids up to and including the marker after which the agent writes.

        Where the template has no place for a system message, its text opens the first
        user message.
        """
        if not messages or messages[-1].role == "assistant":
            raise InputError("a prompt must end on a user or system message", where="messages")
        plain = [Message(m.role, self._quote(m.content)) for m in messages]
        if not self._takes_system and len(plain) > 1 and plain[0].role == "system":
            plain[:2] = [Message("user", f"{plain[0].content}\n\n{plain[1].content}")]
        return self._encode(self._apply(plain, generate=True))

    def action_ids(self, text: str) -> list[int]:
        """Ids of an action's text and the end-of-turn token."""
        return [*self._encode(self._quote(text)), self.end_of_turn]

    def observation_ids(self, text: str, *, closed: bool = True) -> list[int]:
        """Ids from the end of an action to where the agent writes again.

        `closed` is False when the action ended without its end-of-turn token (cut by
        the cap on tokens): the token is then put in here, outside the loss.
        """
        ids = self._encode(self._after_end + self._quote(text) + self._before_action)
        return ids if closed else [self.end_of_turn, *ids]

    def text(self, action_ids: Sequence[int]) -> str:
        """The action's text, end-of-turn token removed."""
        ids = list(action_ids)
        if ids and ids[-1] == self.end_of_turn:
            ids.pop()
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    # -- whole trajectories -----------------------------------------------------------

    def render(self, trajectory: Trajectory, *, max_tokens: int | None = None) -> Rendered:
        """Ids and turn numbers of `trajectory`, cut at whole turns to `max_tokens`.

        Raises `InputError` if there is no turn, or not even the first one fits.
        """
        ids = self.prompt_ids(trajectory.messages)
        turns = [NOT_AGENT] * len(ids)
        reuse = trajectory.tokenizer == self.fingerprint
        kept = 0
        for number, turn in enumerate(trajectory.turns):
            action = list(turn.action_ids) if reuse and turn.action_ids else self.action_ids(turn.action)
            between: list[int] = []
            if number:
                closed = ids[-1] == self.end_of_turn
                between = self.observation_ids(trajectory.turns[number - 1].observation, closed=closed)
            if max_tokens is not None and len(ids) + len(between) + len(action) > max_tokens:
                break
            ids += between + action
            turns += [NOT_AGENT] * len(between) + [number] * len(action)
            kept += 1
        if not kept:
            why = "has no agent turn" if not trajectory.turns else f"does not fit {max_tokens} tokens"
            raise NothingLeft(
                f"the trajectory {why}",
                where=trajectory.task.id,
                mend="drop it, or raise model.max_context" if trajectory.turns else "drop it",
            )
        return Rendered(tuple(ids), tuple(turns), len(trajectory.turns) - kept)

    # -- the template's pieces --------------------------------------------------------

    def _find_pieces(self) -> None:
        first, answer, second = "PROBEUSERONE", "PROBEANSWER", "PROBEUSERTWO"
        text = self._apply(
            [Message("user", first), Message("assistant", answer), Message("user", second)], generate=True
        )
        if any(text.count(probe) != 1 for probe in (first, answer, second)):
            raise InputError(
                "the chat template does not show each message exactly once",
                where="tokenizer.chat_template",
                mend="give a template that keeps the conversation's history",
            )
        between = text.split(answer)[1].split(second)[0]
        self._before_action = text.split(second)[1]
        self.end_of_turn, self._after_end = self._split_end(between)

    def _split_end(self, between: str) -> tuple[int, str]:
        """The end-of-turn token and what follows it before the next observation."""
        ids = self._encode(between.lstrip())
        if ids and ids[0] in self._special:
            end = ids[0]
            text = self.tokenizer.decode([end], skip_special_tokens=False)
            rest = between.lstrip()
            return end, rest[len(text) :] if rest.startswith(text) else rest
        if self.tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer has neither an end-of-turn token in its template nor an eos token",
                where="tokenizer",
                mend="set tokenizer.eos_token",
            )
        return self.tokenizer.eos_token_id, between

    def _apply(self, messages: Sequence[Message], *, generate: bool) -> str:
        plain = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self.tokenizer.apply_chat_template(
                plain, chat_template=self.template, tokenize=False, add_generation_prompt=generate
            )
        except TemplateError as error:
            raise InputError(
                f"the chat template refuses a conversation of {', '.join(m.role for m in messages)}: {error}",
                where="tokenizer.chat_template",
                mend="use a template, or an order of messages, that fits; the tokenizer needs an eos token",
            ) from error

    def _shows_system(self) -> bool:
        """Whether the template has a place for a system message: some refuse or drop it."""
        try:
            probe = [Message("system", "PROBESYSTEM"), Message("user", "PROBEUSER")]
            return "PROBESYSTEM" in self._apply(probe, generate=True)
        except InputError:
            return False

    def _quote(self, text: str) -> str:
        """`text` with every special token it spells broken in two."""
        return self._spelt.sub(lambda found: found[0][0] + BREAK + found[0][1:], text.replace(BREAK, ""))

    def _encode(self, text: str) -> list[int]:
        pieces = text.split(BREAK)
        return [i for piece in pieces for i in self.tokenizer.encode(piece, add_special_tokens=False)]

    def _fingerprint(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        body = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        return hashlib.sha256((body + "\0" + self.template).encode()).hexdigest()[:16]


def check_mask(rendered: Rendered, where: str = "") -> None:
    """Raises `InputError` if no token, or every token, would carry loss."""
    marked = sum(rendered.mask)
    if marked == 0 or marked == len(rendered.ids):
        raise InputError(
            f"the loss mask is all {'0' if marked == 0 else '1'}",
            where=where,
            mend="check the chat template with `eto show-mask`",
        )
