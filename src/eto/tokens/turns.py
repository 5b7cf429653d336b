"""One turn of the agent as its chat template writes it, thoughts and function calls included.

A turn's text is what comes after the generation prompt where the template writes the
conversation up to that turn. A template that leaves thoughts out even there gets them back,
as the agent writes them: an open `<think>` of the generation prompt is continued and closed.
Whatever a template would drop is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eto.errors import InputError
from eto.tokens.chat_template import WHERE, ChatTemplate, arguments_of
from eto.tokens.encoding import BREAK, CLOSE, OPEN, Encoding
from eto.tokens.turn_forms import PROBE, TurnForm, difference
from eto.types import Message, ToolCall

Tools = Sequence[Mapping[str, Any]]
_TEMPLATE = "use a model whose template does, or give one: model.chat_template=FILE"


def fitting(messages: Sequence[Message], form: TurnForm) -> list[Message]:
    """`messages` in the form that the template takes.

    The system message opens the first user message where there is no place for it. Thoughts
    are separate from the agent's text or in it, as the template reads them. Raises `InputError`
    for thoughts of which it knows nothing.
    """
    made = [_with_thoughts(each, form) if each.role == "assistant" else each for each in messages]
    if not form.takes_system and len(made) > 1 and made[0].role == "system":
        made[:2] = [replace(made[1], role="user", content=f"{made[0].content}\n\n{made[1].content}")]
    return made


def _with_thoughts(said: Message, form: TurnForm) -> Message:
    content = said.content
    if said.reasoning:
        if CLOSE in content:
            raise InputError(
                "a turn has thoughts in its text and beside it",
                where="reasoning_content",
                hint="give them once: inside <think> … </think>, or as reasoning_content",
            )
        if not form.knows_thoughts:
            raise InputError(
                "the chat template knows no thoughts (reasoning_content)",
                where=WHERE,
                hint=f"put them into the text, leave them out, or {_TEMPLATE}",
            )
        if form.shows_reasoning:
            return said
        content = f"{OPEN}\n{said.reasoning.strip()}\n{CLOSE}\n\n{content}"
    elif form.shows_reasoning and content.lstrip().startswith(OPEN) and CLOSE in content:
        thought, answer = split_thought(content)
        return replace(said, content=answer.lstrip("\n"), reasoning=thought.strip())
    if form.writes_open:
        thought, answer = split_thought(content)
        content = f"{thought.strip()}\n{CLOSE}\n\n{answer.lstrip()}"
    return replace(said, content=content, reasoning="")


def split_thought(text: str) -> tuple[str, str]:
    """The thought that stands in a text of the agent, and the rest; "" where there is none."""
    if CLOSE not in text:
        return "", text
    before, _, answer = text.rpartition(CLOSE)
    return before.partition(OPEN)[2] if OPEN in before else before, answer


def written_turn(
    template: ChatTemplate,
    form: TurnForm,
    messages: Sequence[Message],
    said: Message,
    tools: Tools,
    prompt: str,
) -> tuple[str, int]:
    """The text that the agent writes after `prompt` to say `said`, and the token that ends it.

    All messages are `fitting`; `prompt` is what the template writes of `messages` for the agent
    to go on. Raises `InputError` where a part of `said` would be lost.
    """
    encoding = template.encoding
    opened = bool(form.open_thought) and prompt.endswith(form.open_thought)
    base = prompt[: prompt.rfind(OPEN)] if opened or form.empty_thought else prompt
    thought, answer = split_thought(encoding.quote(said.content, agent=True))
    thought = (encoding.quote(said.reasoning, agent=True) or thought).strip()
    last = template.text([*messages, said], generate=False, tools=tools)
    rest = _after(last, prompt, base)
    if rest is None:
        # The past may be written otherwise once the turn is there; a past without thoughts is not.
        bare = [_without_thoughts(each) for each in messages]
        start = template.text(bare, generate=True, tools=tools)
        whole = template.text([*bare, said], generate=False, tools=tools)
        rest = _after(whole, start, start[: len(start) - len(prompt) + len(base)])
    if rest is None and not (said.tool_calls or thought or opened):
        answer = answer.strip() if form.trims_agent else answer
        rest = form.lead + answer + form.trail + form.end_text
    if rest is None:
        contrast = difference(prompt, last, "it asks with", "writes")
        problem = f"the chat template's turn does not follow its prompt: {contrast}"
        raise InputError(problem, where=WHERE, hint=_TEMPLATE)
    body, end = _split_end(rest, form, encoding)
    if opened:
        body = _in_open_thought(body, thought)
    elif thought and form.empty_thought:
        raise InputError(
            "the generation prompt writes an empty thought, and this turn has one of its own",
            where=WHERE,
            hint="switch thinking on, with many templates by model.chat_template_kwargs={enable_thinking: "
            "true}, or leave the thoughts out",
        )
    elif thought and thought not in body:
        body = f"{OPEN}\n{thought}\n{CLOSE}{_gap(body)}{body}"
    _check_whole(body, said, thought, answer, encoding)
    if body.count(OPEN) + opened > 1 + answer.count(OPEN):
        raise InputError(
            f"the chat template writes {OPEN} twice in a turn with a thought",
            where=WHERE,
            hint=f"leave the thoughts out, or {_TEMPLATE}",
        )
    return body, end


def _after(whole: str, *starts: str) -> str | None:
    """What follows the first of `starts` with which `whole` begins; None where it does with none."""
    return next((whole[len(start) :] for start in starts if whole.startswith(start)), None)


def _without_thoughts(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return replace(message, content=split_thought(message.content)[1].lstrip(), reasoning="")


def _in_open_thought(body: str, thought: str) -> str:
    """`body` without a second `<think>`, and with the thought closed before the answer."""
    bare = body.lstrip()
    if bare.startswith(OPEN):
        body = bare[len(OPEN) :].removeprefix("\n")
    if CLOSE in body:
        return body
    return f"{thought}\n{CLOSE}{_gap(body)}{body}"


def _gap(answer: str) -> str:
    return "" if answer.startswith("\n") else "\n\n"


def _split_end(rest: str, form: TurnForm, encoding: Encoding) -> tuple[str, int]:
    # Function calls, and the last turn of all, may end on another token than turns in history.
    specials = list(encoding.spelt.finditer(rest))
    if specials and not rest[specials[-1].end() :].strip():
        return rest[: specials[-1].start()], encoding.id_of(specials[-1][0])
    at = rest.rfind(form.end_text) if form.end_text else -1
    if at >= 0:
        return rest[:at], form.end
    return rest.rstrip() + form.trail if form.end_text else rest.rstrip("\n"), form.end


def _check_whole(body: str, said: Message, thought: str, answer: str, encoding: Encoding) -> None:
    lost = ""
    if thought not in body:
        lost = "the thoughts of a turn"
    elif answer.strip() not in body:
        lost = "the text beside a function call" if said.tool_calls else "the text of a turn"
    elif missing := [call.name for call in said.tool_calls if not shows_call(body, call, encoding)]:
        lost = f"a call of {missing[0]!r} with its arguments (tool_calls)"
    if lost:
        raise InputError(
            f"the chat template does not write {lost}",
            where=WHERE,
            hint=f"leave the item out, or {_TEMPLATE}",
        )


def check_shown(messages: Sequence[Message], text: str, encoding: Encoding) -> None:
    """Raises `InputError` unless `text` holds each message of the other roles, and each function call."""
    for message in messages:
        if message.role == "assistant":
            whole = all(shows_call(text, call, encoding) for call in message.tool_calls)
        else:
            whole = encoding.quote(message.content).strip() in text
        if not whole:
            what = "a function call" if message.role == "assistant" else f"a {message.role} message"
            raise InputError(
                f"the chat template does not show {what}",
                where=WHERE,
                hint=f"leave the item out, or {_TEMPLATE}",
            )


def check_tools(template: ChatTemplate, tools: Tools, text: str) -> None:
    """Raises `InputError` unless `text` names each function that can be called."""
    for tool in tools:
        inner = tool.get("function", tool)
        name = str(inner.get("name", "")) if isinstance(inner, Mapping) else ""
        if template.encoding.quote(name) not in text:
            raise InputError(
                f"the chat template does not show the functions that can be called (tools): {name!r}",
                where=WHERE,
                hint=f"leave the item out, or {_TEMPLATE}",
            )


def takes_text_arguments(template: ChatTemplate) -> bool:
    """Whether arguments of calls must be given as text: objects fail, or are shown in Python's form."""
    call = ToolCall("probe_function", '{"probe_key": "PROBEVALUE"}', "abcdefghi")
    talk = [PROBE[0], Message("assistant", "", tool_calls=(call,))]
    try:
        return "'probe_key'" in template.text(talk, generate=False)
    except InputError:
        return True


def shows_call(text: str, call: ToolCall, encoding: Encoding) -> bool:
    """Whether `text` holds the name of `call` and all values of its arguments."""
    text = text.replace(BREAK, "")
    values = [call.name, *_leaves(arguments_of(call))]
    return all(any(form in text for form in _forms(value, encoding)) for value in values)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]


def _forms(value: Any, encoding: Encoding) -> set[str]:
    if not isinstance(value, str):
        return {json.dumps(value), str(value)}
    value = encoding.quote(value).replace(BREAK, "")
    return {value.strip(), *(json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (True, False))}
