"""A model's chat template: which one, what in it is fixed for good, and messages -> text.

A template is settled once, when it is loaded. The date it writes and the arguments it takes are
written into its source, and so is the opener of the agent's turns where it ignores
`add_generation_prompt`. The settled source is what trains, what acts and what is saved.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from eto.errors import InputError
from eto.tokens.encoding import BREAK, Encoding
from eto.types import Message, ToolCall

PLAIN_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '### ' + m['role'] + '\n' + m['content'] + (eos_token if m['role'] == 'assistant' else '') + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
"""Default for tokenizers without a chat template: a `### role` line, the text, and the
end-of-text token after each assistant message."""

FIXED_DATE = "2024-07-26"
"""What templates take for today where no date is given: the date of Llama 3.1's own template."""

WHERE = "tokenizer.chat_template"
_ESCAPED_BREAK = re.compile(re.escape(f"\\u{ord(BREAK):04x}"), re.IGNORECASE)
_FAULTS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_RESERVED = {"messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception"}
_CLOCK = re.compile(r"\bstrftime_now\s*\(\s*(?:(['\"])(.*?)\1\s*\))?")
_CHANCE = re.compile(r"\|\s*random\b|\blipsum\s*\(")
_DATED = re.compile(r"\{# eto: date (\S+) #\}")


class ChatTemplate:
    """Messages -> text, special tokens that they spell broken by `BREAK`."""

    def __init__(self, encoding: Encoding, source: str, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """`tools`: those it is given where a conversation has none, since some templates need some."""
        self.encoding, self.source, self.tools = encoding, source, tuple(tools)
        self.text_arguments = False
        """Arguments of tool calls are given as JSON text; most templates take objects."""

    def text(
        self, messages: Sequence[Message], *, generate: bool, tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """What the template writes. Raises `InputError` where it refuses these messages."""
        plain = [self._plain(message) for message in messages]
        schemas = [self.encoding.quoted(tool) for tool in tools or self.tools]
        try:
            text = self.encoding.tokenizer.apply_chat_template(
                plain,
                tools=schemas or None,
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generate,
            )
        except _FAULTS as error:
            raise InputError(
                f"the chat template refuses a conversation of {_shortly(messages)}: {error}",
                where=WHERE,
                hint="use a template (model.chat_template), or an order of messages, that fits; "
                "the tokenizer needs an eos token",
            ) from error
        return _ESCAPED_BREAK.sub(BREAK, text)

    def _plain(self, message: Message) -> dict[str, Any]:
        quote = self.encoding.quote
        agent = message.role == "assistant"
        plain: dict[str, Any] = {"role": message.role, "content": quote(message.content, agent=agent)}
        if message.reasoning:
            thoughts = quote(message.reasoning, agent=True)
            plain |= {"reasoning_content": thoughts, "reasoning": thoughts}
        if message.tool_calls:
            plain["tool_calls"] = [self._plain_call(call) for call in message.tool_calls]
        for key in ("tool_call_id", "name"):
            if value := getattr(message, key):
                plain[key] = quote(value)
        return plain

    def _plain_call(self, call: ToolCall) -> dict[str, Any]:
        arguments = arguments_of(call)
        quote, quoted = self.encoding.quote, self.encoding.quoted
        given = quote(call.arguments) if self.text_arguments else quoted(arguments)
        function = {"name": quote(call.name), "arguments": given}
        return {"type": "function", "id": quote(call.id), "function": function}


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object. Raises `InputError` where they are none."""
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        value = error
    if not isinstance(value, dict):
        raise InputError(
            f"the arguments of the call of {call.name!r} are not a JSON object: {call.arguments[:60]!r}",
            where="tool_calls",
            hint="write them as a JSON object, or leave the item out",
        )
    return value


def templates_of(tokenizer: Any, given: str | None = None) -> dict[str, str]:
    """Source of the template to use, as `default`, and beside it as `tool_use` the one for items
    with tools where there is one of its own.

    given: Jinja text, the path of a file of it, or the name of one of the tokenizer's templates.
    Raises `InputError` where there is no such template, or several and none is the default.
    """
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, list | tuple):
        own = {each["name"]: each["template"] for each in own}
    named = own if isinstance(own, dict) else {"default": own} if own else {}
    if given:
        return {"default": named[given] if given in named else _from_file(given, named)}
    if not named:
        return {"default": PLAIN_TEMPLATE}
    if "default" not in named:
        names = ", ".join(map(repr, sorted(named)))
        raise InputError(
            f"the tokenizer has the chat templates {names}, and none is named 'default'",
            where=WHERE,
            hint=f"name one: model.chat_template={sorted(named)[0]}",
        )
    return {name: named[name] for name in ("default", "tool_use") if name in named}


def _from_file(given: str, named: Mapping[str, str]) -> str:
    if "{{" in given or "{%" in given:
        return given
    path = Path(given).expanduser()
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        names = f"the tokenizer's are named {', '.join(map(repr, sorted(named)))}" if named else "it has none"
        raise InputError(
            f"cannot read the chat template: {reason}",
            where=f"model.chat_template: {given}",
            hint=f"give the path of a Jinja file, or the name of one of the tokenizer's templates; {names}",
        ) from error


def settled_source(source: str, arguments: Mapping[str, Any], today: str | None) -> str:
    """`source` with its arguments and its date written into it, the same on every day.

    today: `YYYY-MM-DD`, by default `FIXED_DATE`. Raises `InputError` for an argument that the
    template does not read, a date it does not write, and a template that draws by chance.
    """
    if _CHANCE.search(source):
        raise InputError(
            "the chat template writes something else each time: it draws by chance (`random`, `lipsum`)",
            where=WHERE,
            hint="give a template that does not: model.chat_template=FILE",
        )
    given = [_given(name, value, source) for name, value in arguments.items()]
    # A saved agent's template has its own arguments in it already.
    head = "".join(line for line in given if line not in source)
    return _clock(source, today) + head + source


def fixed_date(source: str) -> str | None:
    """The date that a settled template writes; None where it writes none."""
    match = _DATED.search(source)
    return match[1] if match else None


def with_opener(source: str, opener: str) -> str:
    """`source` that writes `opener` where it is asked for the start of the agent's turn."""
    return source.removesuffix("\n") + f"{{{{ {_literal(opener)} if add_generation_prompt else '' }}}}"


def _clock(source: str, today: str | None) -> str:
    fixed, reads = fixed_date(source), list(_CLOCK.finditer(source))
    if today is not None:
        today = _checked_date(today)
        if fixed not in (None, today):
            problem, hint = f"the template's date is fixed at {fixed} since it was saved", "leave it out"
        elif not fixed and not reads:
            problem, hint = "the chat template writes no date", "leave it out"
        else:
            problem = ""
        if problem:
            raise InputError(problem, where="model.date", hint=hint)
    if fixed or not reads:
        return ""
    if any(read[1] is None for read in reads):
        raise InputError(
            "the chat template writes a date in a form that it puts together itself",
            where=WHERE,
            hint="give one that states the form, like strftime_now('%d %b %Y'): model.chat_template=FILE",
        )
    day = date.fromisoformat(today or FIXED_DATE)
    forms = {read[2]: day.strftime(read[2]) for read in reads}
    macro = f"{{% macro strftime_now(form) %}}{{{{ {_literal(forms)}[form] }}}}{{% endmacro %}}\n"
    return f"{{# eto: date {day.isoformat()} #}}" + macro


def _checked_date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise InputError(
            f"{text!r} is not a date", where="model.date", hint="write it as YYYY-MM-DD"
        ) from error


def _given(name: str, value: Any, source: str) -> str:
    where = f"model.chat_template_kwargs.{name}"
    if name in _RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise InputError("this is not an argument one can give", where=where, hint="leave it out")
    if not re.search(rf"\b{name}\b", source):
        raise InputError(
            "the chat template reads no such argument",
            where=where,
            hint="leave it out, or check how the template spells it",
        )
    try:
        literal = _literal(value)
    except TypeError as error:
        raise InputError(
            f"{value!r} is not a value that a template accepts", where=where, hint="give text"
        ) from error
    return f"{{% if {name} is not defined %}}{{% set {name} = {literal} %}}{{% endif %}}\n"


def _literal(value: Any) -> str:
    """`value`, made of JSON's types, as Jinja writes it. Raises `TypeError` for others."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, int | float) and math.isfinite(value):
        return repr(value)
    raise TypeError(type(value).__name__)


def _shortly(messages: Sequence[Message]) -> str:
    roles = [message.role for message in messages]
    return ", ".join(roles if len(roles) <= 6 else [*roles[:3], "…", *roles[-2:]])
