"""Trajectory -> token ids and loss mask: the only place where masks are made.

A conversation is laid out as the model's chat template writes it when the agent acts:
prompt, action, observation, action, ... Segments are tokenised one by one and only ever
appended, as long as the template writes past turns as the agent wrote them. Where it does
not, because it strips thoughts or moves a message, each turn is a sample of its own, in
exactly the context that the template writes for it. Exploring and training call the same
functions, and ids that an engine sampled are used again as they are: nothing is decoded and
encoded again in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eto.errors import InputError
from eto.tokens.chat_template import PLAIN_TEMPLATE, fixed_date
from eto.tokens.encoding import BREAK, CLOSE
from eto.tokens.model_template import ModelTemplate, Thoughts
from eto.tokens.observations import NO_OBSERVATION, observation_marks
from eto.tokens.rendered import NOT_AGENT, Rendered, check_kept, check_mask, without_last
from eto.tokens.talk import Talk, answers_of, message_of
from eto.tokens.turns import Tools, fitting, split_thought
from eto.types import Message, Trajectory, Turn

__all__ = [
    "BREAK",
    "NOT_AGENT",
    "PLAIN_TEMPLATE",
    "Rendered",
    "Renderer",
    "Thoughts",
    "check_mask",
]


class Renderer:
    """Lays conversations out as token ids for one tokenizer and its chat template."""

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        thoughts: Thoughts = "auto",
        today: str | None = None,
    ) -> None:
        """template: Jinja text, a file of it, or the name of one of the tokenizer's. arguments: what
        the template takes, such as `enable_thinking`. thoughts: past turns as the template writes
        them (auto; strip: refused where it strips nothing), or kept as they were written (keep); a
        saved agent's own way counts where it is auto.
        today: the date, `YYYY-MM-DD`, that the template writes.

        Raises `InputError` for a template that cannot be used, named with the reason.
        """
        self._use = ModelTemplate(tokenizer, template, arguments or {}, thoughts, today)
        self.tokenizer, self.thoughts = tokenizer, self._use.thoughts
        self._encoding, self._form = self._use.encoding, self._use.form
        self.template = self._use.default.source
        self.end_of_turn = self._form.end
        self.fingerprint = self._use.fingerprint()
        self._around: tuple[list[int], list[int]] | None = None
        self.embeddings: int | None = None
        """Tokens the model has embeddings of, where one is known."""

    @property
    def stops(self) -> tuple[int, ...]:
        """Ids that end an action: its end of turn, and the tokenizer's end of text."""
        return tuple({self.end_of_turn, self.tokenizer.eos_token_id} - {None})

    @property
    def notes(self) -> list[str]:
        """What a person should know of this template; each is also given as a warning, once."""
        return self._use.notes

    @property
    def facts(self) -> dict[str, str | None]:
        """What decides the tokens of a conversation, for a run's manifest."""
        date = fixed_date(self.template)
        return {"fingerprint": self.fingerprint, "thoughts": self.thoughts, "date": date}

    # -- segments ---------------------------------------------------------------------

    def prompt_ids(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Ids up to and including the marker after which the agent writes.

        Where the template has no place for a system message, its text opens the first
        user message.
        """
        return self.talk(messages, tools).ids

    def action_ids(self, text: str) -> list[int]:
        """Ids of an action's text and the end-of-turn token."""
        form = self._form
        return [*self._encoding.encode_after(form.before_action, self._body(text)), form.end]

    def observation_ids(self, text: str, *, closed: bool = True) -> list[int]:
        """Ids from the end of an action to where the agent writes again.

        `closed` is False when the action ended without its end-of-turn token (cut by
        the cap on tokens): the token is then put in here, outside the loss.
        """
        ids = self._encoding.encode(self._between(text))
        return ids if closed else [self.end_of_turn, *ids]

    def text(self, action_ids: Sequence[int]) -> str:
        """The action's text without what the template puts around it; thoughts stay, empty ones do not."""
        ids, form = list(action_ids), self._form
        ended = bool(ids) and ids[-1] == form.end
        text = self._encoding.decode(ids[:-1] if ended else ids)
        text = text.removeprefix(form.lead)
        text = text.removesuffix(form.trail) if ended else text
        if form.open_thought:
            text = form.open_thought + text
        if form.knows_thoughts and CLOSE in text:
            thought, answer = split_thought(text)
            text = text if thought.strip() else answer.lstrip("\n")
        return text

    def talk(self, messages: Sequence[Message], tools: Tools = ()) -> Talk:
        """A conversation that continues turn by turn."""
        return self._use.talk(messages, tools, keep=self.thoughts == "keep")

    # -- whole trajectories -----------------------------------------------------------

    def samples(
        self, trajectory: Trajectory, *, max_tokens: int | None = None, to_the_end: bool = False
    ) -> tuple[Rendered, ...]:
        """`trajectory` as it is trained: each of the agent's turns once, in the context in which the
        agent writes it. One sample where contexts only grow, else several.

        Cut at whole turns to `max_tokens`. `to_the_end`: with the last turn's observation, which the agent
        does not read, where it fits. Raises `InputError` if there is no turn, not even the
        first one fits, or the template would drop something.
        """
        if to_the_end and trajectory.turns[-1:] and trajectory.turns[-1].observation:
            # A turn after the last one, without loss and text, brings its observation in.
            unread = Turn("", "", loss=False)
            longer = replace(trajectory, turns=(*trajectory.turns, unread))
            samples = self.samples(longer, max_tokens=max_tokens)
            return (*samples[:-1], without_last(samples[-1], len(trajectory.turns)))
        if self.thoughts == "keep" and not _begins_afresh(trajectory):
            return (self.render(trajectory, max_tokens=max_tokens),)
        if self._form.regular and _is_plain(trajectory) and self._is_as_written(trajectory):
            return (self._pieces(trajectory, max_tokens),)
        return tuple(self._walk(trajectory, max_tokens, keep=self.thoughts == "keep"))

    def render(self, trajectory: Trajectory, *, max_tokens: int | None = None) -> Rendered:
        """`trajectory` as one sample, past turns kept as they were written whatever the template does.

        Otherwise as `samples`, up to a turn that has the next one begin afresh.
        """
        if self._form.regular and _is_plain(trajectory):
            return self._pieces(trajectory, max_tokens)
        return self._walk(trajectory, max_tokens, keep=True)[0]

    @property
    def saved_tokenizer(self) -> Any:
        """The tokenizer to save with an agent: with the template as it is used here, on any day."""
        return self._use.saved_tokenizer()

    # -- inside -----------------------------------------------------------------------

    def _pieces(self, trajectory: Trajectory, max_tokens: int | None) -> Rendered:
        """A plain trajectory from the template's pieces, which do not depend on the text."""
        ids = self.prompt_ids(trajectory.messages)
        turns, seen = [NOT_AGENT] * len(ids), [NO_OBSERVATION] * len(ids)
        kept = 0
        for number, turn in enumerate(trajectory.turns):
            action = self._sampled(trajectory, turn) or self.action_ids(turn.action)
            between: list[int] = []
            if number:
                closed = ids[-1] == self.end_of_turn
                between = self.observation_ids(trajectory.turns[number - 1].observation, closed=closed)
                seen += self._marks(between, number - 1, closed)
            if max_tokens is not None and len(ids) + len(between) + len(action) > max_tokens:
                break
            ids += between + action
            turns += [NOT_AGENT] * len(between) + [number if turn.loss else NOT_AGENT] * len(action)
            seen += [NO_OBSERVATION] * len(action)
            kept += 1
        check_kept(trajectory, kept, max_tokens)
        dropped = len(trajectory.turns) - kept
        return Rendered(tuple(ids), tuple(turns), dropped, tuple(seen[: len(ids)]))

    def _walk(self, trajectory: Trajectory, max_tokens: int | None, *, keep: bool) -> list[Rendered]:
        """Any trajectory turn by turn, as the agent reads it when it acts."""
        try:
            return self._walked(trajectory, max_tokens, keep=keep)
        except InputError as error:
            if trajectory.task.id in error.where:
                raise
            where = f"{trajectory.task.id}: {error.where}" if error.where else trajectory.task.id
            raise InputError(error.problem, where=where, hint=error.hint) from error

    def _walked(self, trajectory: Trajectory, max_tokens: int | None, *, keep: bool) -> list[Rendered]:
        talk = self._use.talk(trajectory.messages, trajectory.tools, keep=keep)
        rows: list[tuple[list[int], list[int], list[int]]] = []
        ids, turns = list(talk.ids), [NOT_AGENT] * len(talk.ids)
        seen = [NO_OBSERVATION] * len(ids)
        action: list[int] = []
        kept = 0
        for number, turn in enumerate(trajectory.turns):
            if number:
                appended, more = talk.go_on(action, trajectory.turns[number - 1])
                if not appended:
                    rows.append((ids, turns, seen))
                    ids, turns, seen = [], [], []
                closed = bool(action) and action[-1] == self.end_of_turn
                seen += self._marks(more, number - 1, closed) if appended else [NO_OBSERVATION] * len(more)
                ids += more
                turns += [NOT_AGENT] * len(more)
            action = self._sampled(trajectory, turn) or []
            if action:
                talk.sampled(action)
            else:
                action = talk.written(turn)
            if max_tokens is not None and len(ids) + len(action) > max_tokens:
                break
            ids += action
            turns += [number if turn.loss else NOT_AGENT] * len(action)
            seen += [NO_OBSERVATION] * len(action)
            kept += 1
        check_kept(trajectory, kept, max_tokens)
        rows.append((ids, turns, seen))
        rows = [row for row in rows if any(turn >= 0 for turn in row[1])] or rows[-1:]
        dropped = len(trajectory.turns) - kept
        last = len(rows) - 1
        return [
            Rendered(tuple(i), tuple(t), dropped if at == last else 0, tuple(o))
            for at, (i, t, o) in enumerate(rows)
        ]

    def _marks(self, between: Sequence[int], turn: int, closed: bool) -> list[int]:
        """Which of the ids between two actions are the observation of `turn`."""
        if self._around is None:
            form, encoding = self._form, self._encoding
            self._around = encoding.encode(form.after_end), encoding.encode(form.before_action)
        before, after = self._around
        return observation_marks(between, before if closed else [self.end_of_turn, *before], after, turn)

    def _is_as_written(self, trajectory: Trajectory) -> bool:
        """Whether the template writes the whole conversation as its pieces do."""
        template, form = self._use.default, self._form
        said = fitting(trajectory.messages, form)
        ours = template.text(said, generate=True)
        for number, turn in enumerate(trajectory.turns):
            if number:
                ours += form.end_text + self._between(trajectory.turns[number - 1].observation)
                said += answers_of(trajectory.turns[number - 1])
            said.append(message_of(turn))
            sampled = self._sampled(trajectory, turn)
            ours += self._body(turn.action) if sampled is None else self._sampled_text(sampled)
        return template.text(said, generate=False).startswith(ours)

    def _sampled(self, trajectory: Trajectory, turn: Turn) -> list[int] | None:
        """The ids that an engine sampled with this tokenizer; None where there are none."""
        if trajectory.tokenizer != self.fingerprint or not turn.action_ids:
            return None
        if self.embeddings is not None and max(turn.action_ids) >= self.embeddings:
            raise InputError(
                f"the token id {max(turn.action_ids)} is beyond the model's {self.embeddings} embeddings",
                where=f"{trajectory.task.id}: action_ids",
                hint="delete the ids: the text is then tokenised",
            )
        return list(turn.action_ids)

    def _sampled_text(self, ids: Sequence[int]) -> str:
        ended = ids[-1] == self.end_of_turn
        return self._encoding.quote(self._encoding.decode(ids[:-1] if ended else ids), agent=True)

    def _body(self, text: str) -> str:
        form, text = self._form, self._encoding.quote(text, agent=True)
        return form.lead + (text.strip() if form.trims_agent else text) + form.trail

    def _between(self, text: str) -> str:
        form, text = self._form, self._encoding.quote(text)
        return form.after_end + (text.strip() if form.trims_user else text) + form.before_action


def _is_plain(trajectory: Trajectory) -> bool:
    """Whether there is nothing but text in it."""
    messages = [*trajectory.messages, *(each for turn in trajectory.turns for each in turn.answers)]
    return not (
        trajectory.tools
        or _begins_afresh(trajectory)
        or any(turn.reasoning or turn.tool_calls or turn.answers for turn in trajectory.turns)
        or any(each.reasoning or each.tool_calls or each.role == "tool" for each in messages)
    )


def _begins_afresh(trajectory: Trajectory) -> bool:
    """Whether a turn follows one that has it begin without past turns."""
    return any(turn.afresh for turn in trajectory.turns[:-1])
