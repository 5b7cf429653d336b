"""Preference items of other trainers, read for what they are: two sides that follow one prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eto.credit.contrast import shared_turns
from eto.data.checks import bad, is_finite
from eto.data.foreign.calls import tools_of
from eto.data.foreign.conversations import (
    check_loss_of_item,
    conversation_key,
    prompt_of,
    task_of,
    with_system,
)
from eto.data.foreign.forms import unknown_form
from eto.data.foreign.lists import CHOSEN, PAIR, REJECTED, SCORES
from eto.data.foreign.messages import Said, check_order, read_message, read_messages, turns_of
from eto.data.notes import Notes
from eto.data.texts import brief
from eto.errors import InputError
from eto.types import Message, Pair, StopReason, Trajectory

PLAIN = "plain texts read as a message of the user and replies of the agent, in the model's chat template"
_MARKUP = re.compile(
    r"\n\n(Human|Assistant):|### (Response|Assistant):"
    r"|<\|im_start\|>|\[/INST\]|<\|start_header_id\|>|<start_of_turn>"
)


@dataclass(frozen=True, slots=True)
class _Sides:
    prompt: list[Said]
    chosen: list[Said]
    rejected: list[Said]


def is_preference(item: Mapping[str, Any]) -> bool:
    """Whether an item holds two sides, in any form."""
    there = {key for key, value in item.items() if value is not None}
    two = there & {*CHOSEN, "preferred_output"} and there & {*REJECTED, "non_preferred_output"}
    swift = there & {"messages", "conversations"} and there & set(REJECTED)
    return bool(two or swift or (isinstance(item.get("output"), list) and "instruction" in there))


def pair_from_item(item: dict[str, Any], where: str, number: int = 0, *, notes: Notes | None = None) -> Pair:
    """The pair of another trainer's item; without an `id` it is named by `number`.

    The prompt is what both sides follow, and each side the agent's turns after it. Rewards are
    unknown in these forms: chosen stands at 1, rejected at 0. Raises `InputError` naming `where`
    and the field; docs/files.md lists forms and fields.
    """
    notes = notes if notes is not None else Notes()
    if isinstance(item.get("input"), dict) and "preferred_output" in item:
        item = _openai(item, where, notes)
    if not is_preference(item) and not {*CHOSEN, *REJECTED} & item.keys():
        raise unknown_form(item, where, "`chosen` and `rejected`")
    PAIR.check(item, where, notes)
    check_loss_of_item(item, where, "delete the pair")
    _check_scores(item, where, notes)
    named = item.get("id", item.get("item_id")) is not None or item.get("game_file") is not None
    task = task_of(item if named else {"id": f"pair-{number}"}, where, notes)
    sides = _sides(item, where, notes)
    begin = 1 if sides.prompt and sides.prompt[0].role == "system" else 0
    check_order(sides.prompt[begin:])
    prompt = prompt_of(sides.prompt, f"{where}, field 'prompt'")
    tools = tools_of(item, where)
    made = []
    for name, said, reward in (("chosen", sides.chosen, 1.0), ("rejected", sides.rejected, 0.0)):
        if not said:
            raise bad(where, name, "no agent turn", "delete the pair, or give both sides a turn")
        check_order(said, begins="assistant")
        turns = turns_of(said, reward)
        if not any(turn.loss for turn in turns):
            raise bad(where, name, "no agent turn that carries loss", "delete the pair")
        stop = StopReason.TERMINATED
        made.append(Trajectory(task, prompt, turns, reward, None, stop, "imported", tools=tools))
    chosen, rejected = made
    return Pair(task, chosen, rejected, shared_turns(chosen, rejected))


_OPENAI = ("input", "preferred_output", "non_preferred_output")


def _openai(item: dict[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """OpenAI's preference item in the words of the others."""
    inner = dict(item["input"])
    if inner.pop("parallel_tool_calls", None) is not None:
        notes.ignored["parallel_tool_calls"] += 1
    rest = {key: value for key, value in item.items() if key not in _OPENAI}
    if strange := sorted(set(inner) - {"messages", "tools"}):
        raise bad(f"{where}, input", strange[0], "unknown field", "delete it")
    made = {**inner, "chosen": item.get(_OPENAI[1]), "rejected": item.get(_OPENAI[2])}
    for key in (*made, "conversations", *CHOSEN, *REJECTED):
        if rest.get(key) is not None:
            raise bad(
                where, key, "is given together with `input` and `preferred_output`", "keep one of the two"
            )
    return {**rest, **made}


def _sides(item: dict[str, Any], where: str, notes: Notes) -> _Sides:
    chosen_key, rejected_key = _key(item, CHOSEN, where), _key(item, REJECTED, where)
    if chosen_key is None and rejected_key is None and isinstance(item.get("output"), list):
        item, chosen_key, rejected_key = {**item, **_two(item["output"], where)}, "chosen", "rejected"
    elif item.get("output") not in (None, "", []):
        raise bad(where, "output", "is given together with `chosen` and `rejected`", "keep one of the two")
    if item.get("messages") is not None or item.get("conversations") is not None:
        return _beside_conversation(item, chosen_key, rejected_key, where, notes)
    if chosen_key is None or rejected_key is None:
        raise bad(where, "rejected" if chosen_key else "chosen", "the field is missing", "give both sides")
    chosen = _said(item[chosen_key], where, chosen_key, notes)
    rejected = _said(item[rejected_key], where, rejected_key, notes)
    prompt = _prompt(item, where, notes)
    whole = [bool(side) and side[0].role != "assistant" for side in (chosen, rejected)]
    if not prompt or all(whole):
        if isinstance(item[chosen_key], str):
            raise _no_prompt(where, "the texts `chosen` and `rejected` follow no `prompt`")
        return _checked_against(prompt, _common(chosen, rejected, item, where, notes), where)
    if any(whole):
        raise bad(
            where, chosen_key, "one side begins with the prompt, the other with the agent", "give both alike"
        )
    _note_plain(item, (chosen_key, rejected_key), where, notes)
    return _Sides(with_system(prompt, item, where, notes), chosen, rejected)


def _beside_conversation(
    item: dict[str, Any], chosen_key: str | None, rejected_key: str | None, where: str, notes: Notes
) -> _Sides:
    """LLaMA-Factory, Axolotl: the conversation is the prompt. ms-swift: it ends on the chosen reply."""
    key = conversation_key(item, where)
    for other in ("question", "instruction", "input", "history"):
        if item.get(other) not in (None, "", []):
            raise bad(where, other, f"is given together with {key!r}", "keep one of the two")
    before = with_system(read_messages(item[key], where, key, notes), item, where, notes)
    if rejected_key is None:
        raise bad(where, "rejected", "the field is missing", "give both sides")
    if item.get("prompt") is not None and item["prompt"] not in [each.message.content for each in before]:
        raise bad(
            where, "prompt", "is given together with a conversation that lacks it", "keep one of the two"
        )
    rejected = _said(item[rejected_key], where, rejected_key, notes)
    if chosen_key is not None:
        chosen = _said(item[chosen_key], where, chosen_key, notes)
        whole = [bool(side) and side[0].role != "assistant" for side in (chosen, rejected)]
        if all(whole):
            # UltraFeedback repeats the chosen conversation as `messages`.
            sides = _common(chosen, rejected, item, where, notes)
            return _checked_against([each for each in before if each.role != "system"], sides, where, key)
        if any(whole):
            raise bad(
                where,
                chosen_key,
                "one side begins with the prompt, the other with the agent",
                "give both alike",
            )
        return _Sides(before, chosen, rejected)
    if rejected and rejected[0].role != "assistant":
        return _common(before, rejected, item, where, notes)
    if not before or before[-1].role != "assistant":
        raise bad(
            where, key, "does not end on the agent's reply, the chosen one", "end it on the chosen reply"
        )
    return _Sides(before[:-1], before[-1:], rejected)


def _common(
    chosen: list[Said], rejected: list[Said], item: Mapping[str, Any], where: str, notes: Notes
) -> _Sides:
    """Two whole conversations: the prompt is their common prefix, and each side continues with the agent."""
    chosen, rejected = (with_system(side, item, where, notes) for side in (chosen, rejected))
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one.message != other.message:
            break
        shared += 1
    while shared and not all(
        side[shared : shared + 1] and side[shared].role == "assistant" for side in (chosen, rejected)
    ):
        shared -= 1
    if not any(each.role == "user" for each in chosen[:shared]):
        raise _no_prompt(where, "the prompts of the two sides differ")
    return _Sides(chosen[:shared], chosen[shared:], rejected[shared:])


def _checked_against(said: list[Said], sides: _Sides, where: str, key: str = "prompt") -> _Sides:
    """`sides`, whose chosen conversation must begin with what the item's `key` says as well."""
    asked = [each.message for each in said if each.role != "system"]
    held = [each.message for each in (*sides.prompt, *sides.chosen) if each.role != "system"]
    if held[: len(asked)] != asked:
        raise bad(where, key, "is not how `chosen` begins", "keep one of the two")
    return sides


def _no_prompt(where: str, problem: str) -> InputError:
    hint = "give `prompt`, `chosen` and `rejected` as lists of messages; both sides follow the one prompt"
    return InputError(problem, where=where, hint=hint)


def _key(item: Mapping[str, Any], names: tuple[str, ...], where: str) -> str | None:
    there = [name for name in names if item.get(name) is not None]
    if len(there) > 1:
        raise bad(where, there[1], f"is given together with {there[0]!r}", "keep one of the two")
    return there[0] if there else None


def _two(output: list[Any], where: str) -> dict[str, str]:
    if len(output) != 2 or not all(isinstance(text, str) for text in output):
        raise bad(where, "output", "expected two texts, the better one first", "give `chosen` and `rejected`")
    return {"chosen": output[0], "rejected": output[1]}


def _said(value: Any, where: str, key: str, notes: Notes) -> list[Said]:
    """A side: a list of messages, one message, or the text of one reply."""
    if isinstance(value, str):
        _check_plain(value, where, key)
        return read_message({"role": "assistant", "content": value}, f"{where}, field '{key}'", notes)
    if isinstance(value, dict):
        return read_message(value, f"{where}, field '{key}'", notes)
    return read_messages(value, where, key, notes)


def _prompt(item: Mapping[str, Any], where: str, notes: Notes) -> list[Said]:
    texts = [key for key in ("instruction", "input") if isinstance(item.get(key), str) and item[key]]
    keys = [key for key in ("prompt", "question") if item.get(key) is not None]
    keys += [key for key in ("instruction", "input") if item.get(key) not in (None, "") and key not in texts]
    if len(keys) + bool(texts) > 1:
        raise bad(where, [*keys, *texts][1], f"is given together with {keys[0]!r}", "keep one prompt")
    before = _history(item.get("history"), where)
    if not keys and not texts:
        if before:
            raise bad(where, "history", "stands there without a prompt after it", "put it into the messages")
        return []
    value = item[keys[0]] if keys else "\n".join(item[key] for key in texts)
    if not isinstance(value, str):
        if before:
            raise bad(where, "history", "is given together with a list of messages", "put it into the prompt")
        return read_messages(value, where, keys[0], notes)
    _check_plain(value, where, (keys or texts)[0])
    messages = [*before, Message("user", value)]
    return [Said(message, f"{where}, field '{(keys or texts)[0]}'") for message in messages]


def _history(value: Any, where: str) -> list[Message]:
    if value in (None, "", []):
        return []
    rounds = value if isinstance(value, list) else [value]
    made = []
    for each in rounds:
        if not isinstance(each, list) or len(each) != 2 or not all(isinstance(text, str) for text in each):
            raise bad(where, "history", f"expected [question, answer], found {brief(each)}")
        made += [Message("user", each[0]), Message("assistant", each[1])]
    return made


def _check_plain(text: str, where: str, key: str) -> None:
    if markup := _MARKUP.search(text):
        raise bad(
            where,
            key,
            f"holds a conversation in markup ({markup[0].strip()!r})",
            "split it into messages with role and content: the model's own template writes the markup",
        )


def _note_plain(item: Mapping[str, Any], keys: tuple[str, str], where: str, notes: Notes) -> None:
    if isinstance(item.get("prompt"), str) and all(isinstance(item[key], str) for key in keys):
        notes.events[PLAIN] += 1


def _check_scores(item: Mapping[str, Any], where: str, notes: Notes) -> None:
    for better, worse in SCORES:
        high, low = item.get(better), item.get(worse)
        if high is None or low is None:
            notes.ignored.update(key for key in (better, worse) if item.get(key) is not None)
            continue
        for key, value in ((better, high), (worse, low)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
                raise bad(
                    where, key, f"{brief(value)} is not a number", "give a number, or delete both fields"
                )
        if high < low:
            raise bad(
                where,
                better,
                f"the chosen side has the lower score ({high:g} < {low:g})",
                "swap the sides, or delete the pair",
            )
        if high == low:
            notes.events["pairs whose sides have equal scores, read as labelled"] += 1
