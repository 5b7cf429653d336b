"""The chat template of one model as it is used: settled, probed, reported, and saved with the agent."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from eto.errors import InputError
from eto.tokens.chat_template import ChatTemplate, fixed_date, settled_source, templates_of
from eto.tokens.encoding import Encoding
from eto.tokens.talk import Talk
from eto.tokens.turn_forms import TurnForm, turn_form
from eto.tokens.turns import Tools, takes_text_arguments
from eto.types import Message

Thoughts = Literal["auto", "keep", "strip"]
PROBE_TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "probe_function",
            "description": "Probes.",
            "parameters": {
                "type": "object",
                "properties": {"probe_key": {"type": "string", "description": "A text."}},
                "required": ["probe_key"],
            },
        },
    },
)
"""For a template that needs functions to be there."""
RECORD = "eto_thoughts"
"""In a saved agent's tokenizer_config.json: how it was trained to see its past turns."""


class ModelTemplate:
    """One template, or two where items with tools have one of their own."""

    def __init__(
        self,
        tokenizer: Any,
        given: str | None,
        arguments: Mapping[str, Any],
        thoughts: Thoughts,
        today: str | None,
    ) -> None:
        """Arguments as of `Renderer`. Raises `InputError` for a template that cannot be used."""
        self.tokenizer, self.encoding = tokenizer, Encoding(tokenizer)
        self.notes: list[str] = []
        self._said: set[str] = set()
        self._sources = {
            name: settled_source(source, arguments, today)
            for name, source in templates_of(tokenizer, given).items()
        }
        self._for_tools: tuple[ChatTemplate, TurnForm] | None = None
        self.default, self.form = self._probed("default")
        self._sources["default"] = self.default.source
        self.thoughts = _checked(thoughts, self.form, tokenizer)

    def talk(self, messages: Sequence[Message], tools: Tools, *, keep: bool) -> Talk:
        """A conversation in this template, or in the one for tools."""
        template, form = self.default, self.form
        if tools and "tool_use" in self._sources:
            # Looked at only where it is needed: it may refuse what the model is never shown.
            self._for_tools = self._for_tools or self._probed("tool_use", PROBE_TOOLS)
            template, form = self._for_tools
        return Talk(template, form, messages, tools, keep=keep, say=self._say)

    def _probed(self, name: str, tools: Tools = ()) -> tuple[ChatTemplate, TurnForm]:
        made = ChatTemplate(self.encoding, self._sources[name], tools)
        settled, form = turn_form(made)
        settled.text_arguments = takes_text_arguments(settled)
        self._tell(made, settled)
        return settled, form

    def fingerprint(self) -> str:
        """A hash of tokenizer and template, which token ids belong to."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        body = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        sources = "\0".join(self._sources.values())
        return hashlib.sha256((body + "\0" + sources).encode()).hexdigest()[:16]

    def saved_tokenizer(self) -> Any:
        """The tokenizer with the template as it is used here, and how past turns are seen."""
        tokenizer = copy.copy(self.tokenizer)
        own = self.tokenizer.chat_template
        others = {**own, **self._sources} if isinstance(own, dict) else self._sources
        tokenizer.chat_template = others if len(others) > 1 else self._sources["default"]
        if self.thoughts != "auto":
            tokenizer.init_kwargs = {**tokenizer.init_kwargs, RECORD: self.thoughts}
        return tokenizer

    def _tell(self, made: ChatTemplate, settled: ChatTemplate) -> None:
        if (day := fixed_date(settled.source)) is not None:
            self._note(f"the chat template writes a date, which is fixed at {day} (model.date)")
        if settled.source != made.source:
            opener = settled.source[len(made.source.removesuffix("\n")) :].split(" if ")[0].strip("{ ")
            self._note(
                "the chat template ignores add_generation_prompt; the agent's turns are opened as in its "
                f"history, with {opener}"
            )

    def _say(self, topic: str, difference: str) -> None:
        """Tell once, with the first place found, that past turns are seen otherwise than written."""
        if topic in self._said:
            return
        self._said.add(topic)
        if topic == "rewritten":
            note = (
                "the chat template writes past turns otherwise than the agent wrote them; each turn is "
                f"trained and played in the context that the template writes for it: {difference}"
            )
        else:
            note = (
                "past turns are kept as they were written; programs that use the chat template show the "
                f"agent others: {difference}"
            )
        self._note(note)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        warnings.warn(text, stacklevel=4)


def _checked(thoughts: Thoughts, form: TurnForm, tokenizer: Any) -> Thoughts:
    recorded = getattr(tokenizer, "init_kwargs", {}).get(RECORD)
    if thoughts == "auto" and recorded in get_args(Thoughts):
        return cast(Thoughts, recorded)
    if thoughts not in get_args(Thoughts):
        choices = ", ".join(get_args(Thoughts))
        raise InputError(f"unknown {thoughts!r}", where="model.thoughts", hint=f"use one of {choices}")
    if thoughts == "strip" and not form.strips:
        raise InputError(
            "the chat template strips nothing from past turns",
            where="model.thoughts",
            hint="leave it at auto, or give a template that does: model.chat_template=FILE",
        )
    return thoughts
