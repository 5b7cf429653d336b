"""Trajectories in other trainers' forms: ShareGPT, OpenAI messages, tool calls included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eto.data.checks import bad, check_prompt, need, reward_of
from eto.data.foreign.calls import tools_of
from eto.data.foreign.lists import LOSS_FLAGS, OUTCOMES, TRAJECTORY
from eto.data.foreign.messages import Said, check_order, loss_flag, read_message, read_messages, turns_of
from eto.data.notes import Notes
from eto.data.texts import brief
from eto.errors import InputError
from eto.types import Message, StopReason, Task, Trajectory

_CALLED_OFF = "exceeding maximum input length"
"""What the ETO rollout code writes for every exception of its model server."""
_SYSTEM = ("system", "system_prompt", "system_message")


def trajectory_from_conversation(
    item: dict[str, Any], where: str, *, source: str | None = None, notes: Notes | None = None
) -> Trajectory:
    """The trajectory of a ShareGPT or OpenAI item.

    The prompt ends before the agent's first own turn: acknowledgements (`OK`, or a reply marked
    as carrying no loss) and the first `icl_messages` belong to it. Reward from `reward` or
    `meta.reward`; without one an expert's counts as 1 (as in the ETO data), any other is an
    error. A rollout whose `meta.reward` is null died with the model's server: it comes back as
    failed. Raises `InputError` naming `where` and the field; docs/files.md lists the fields.
    """
    notes = notes if notes is not None else Notes()
    TRAJECTORY.check(item, where, notes)
    key = conversation_key(item, where)
    _check_whole(item, where, notes)
    task = task_of(item, where, notes)
    who = _source(item, source, where)
    reward, stop, detail = _outcome(item, who, where, notes)
    said = with_system(read_messages(item[key], where, key, notes), item, where, notes)
    start = 1 if said and said[0].role == "system" else 0
    check_order(said[start:])
    _check_same_prompt(item, said, where)
    prompt, rest = _split(said, item, where)
    turns = turns_of(rest, reward)
    if not any(turn.loss for turn in turns) and stop is not StopReason.ENGINE_FAILED:
        raise InputError(
            "no agent turn that carries loss",
            where=where,
            hint="delete the item: there is nothing to learn from (a lone OK is not a turn)",
        )
    return Trajectory(
        task=task,
        messages=prompt,
        turns=turns,
        reward=reward,
        # The success flag in `meta` is True for any purchase or any end: not success.
        success=None if item.get("success") is None else need(item, "success", bool, where),
        stop=stop,
        source=who,
        detail=detail,
        tools=tools_of(item, where),
    )


def conversation_key(item: Mapping[str, Any], where: str) -> str:
    """`conversations` or `messages`, whichever there is. Raises where there are both, or none."""
    keys = [key for key in ("conversations", "messages") if item.get(key) is not None]
    if len(keys) != 1:
        what = "both `conversations` and `messages`" if keys else "neither `conversations` nor `messages`"
        raise InputError(f"{what}", where=where, hint="give one of the two")
    return keys[0]


def with_system(said: list[Said], item: Mapping[str, Any], where: str, notes: Notes) -> list[Said]:
    """`said` with the item's system text at its head."""
    given = [key for key in _SYSTEM if item.get(key) not in (None, "", [])]
    if not given:
        return said
    texts = [
        read_message({"role": "system", "content": item[k]}, f"{where}, field '{k}'", notes) for k in given
    ]
    [system] = texts[0]
    if len(given) > 1 and any(text[0].message != system.message for text in texts):
        raise bad(where, given[1], f"says other than {given[0]!r}", "keep one of them")
    if said and said[0].role == "system":
        if said[0].message.content != system.message.content:
            raise bad(where, given[0], "says other than the system message", "keep one of the two")
        return said
    return [system, *said]


def task_of(item: Mapping[str, Any], where: str, notes: Notes) -> Task:
    """The task an item names. 17, "17" and 17.0 name the same one."""
    game = _game(item, where)
    notes.ignored.update(key for key in ("item_id",) if {"id", key} <= item.keys() and item[key] is not None)
    key = "id" if item.get("id") is not None else "item_id"
    given = "/".join(game) if game else item.get(key)
    if isinstance(given, float) and given.is_integer():
        given = int(given)  # a column of numbers with a gap in it
    if given is None:
        raise bad(where, "id", "the field is missing", "give every item the id of its task (text or number)")
    if not isinstance(given, str | int) or isinstance(given, bool) or not str(given).strip():
        what = "is empty" if given == "" else f"{brief(given)} is neither text nor a whole number"
        raise bad(where, key, what, "give every item the id of its task (text or number)")
    parts = [part for part in str(given).split("/") if part]
    kind = parts[-2] if len(parts) > 1 else "imported"
    return Task(str(given), "imported", kind.split("-")[0] if game else kind, "train")


def check_loss_of_item(item: Mapping[str, Any], where: str, hint: str) -> None:
    """Raise where the whole item is marked as carrying no loss."""
    if loss_flag(dict(item), where) is False:
        key = next(key for key in LOSS_FLAGS if item.get(key) is not None)
        raise bad(where, key, "the whole item is marked as carrying no loss", hint)


def prompt_of(said: list[Said], where: str) -> tuple[Message, ...]:
    """Messages before the agent's first own turn. Raises where they cannot be that, or ask for a loss."""
    for each in said:
        if each.loss:
            raise InputError(
                "a reply of the prompt asks for a loss; a prompt carries none",
                where=each.where,
                hint="delete the mark, or let the prompt end before this reply",
            )
    prompt = [each.message for each in said]
    check_prompt(prompt, where)
    return tuple(prompt)


def _check_whole(item: Mapping[str, Any], where: str, notes: Notes) -> None:
    check_loss_of_item(item, where, "delete the item, or mark single replies")
    rewarded = item.get("reward") is not None or "reward" in _meta(item)
    for key in OUTCOMES:
        if item.get(key) is not None and rewarded:
            notes.ignored[key] += 1
        elif item.get(key) is not None:
            raise bad(
                where,
                key,
                "says how the episode went, and there is no reward",
                "name it `reward`, a number in [0, 1]; if it is something else, put it under 'meta'",
            )


def _check_same_prompt(item: Mapping[str, Any], said: list[Said], where: str) -> None:
    first = next((each.message.content for each in said if each.role == "user"), None)
    if item.get("prompt") is not None and item["prompt"] != first:
        raise bad(
            where, "prompt", "is not the first user message", "keep the conversation alone, prompt included"
        )


def _source(item: Mapping[str, Any], source: str | None, where: str) -> str:
    if source is not None:
        return source
    return "expert" if item.get("source") in (None, "") else need(dict(item), "source", str, where)


def _meta(item: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = item.get("meta")
    return meta if isinstance(meta, dict) else {}


def _game(item: Mapping[str, Any], where: str) -> list[str]:
    """Task and trial folder of an ALFWorld game, [] elsewhere: its numbers are not stable ids.

    Expert data names the game in `game_file`; the ETO rollouts hide it in `meta.error`.
    """
    named = None if item.get("game_file") is None else need(dict(item), "game_file", str, where)
    path = named or _meta(item).get("error")
    if not isinstance(path, str) or not (named or path.endswith(".tw-pddl")):
        return []
    return [part for part in path.split("/") if part and not part.endswith(".tw-pddl")][-2:]


def _split(said: list[Said], item: Mapping[str, Any], where: str) -> tuple[tuple[Message, ...], list[Said]]:
    """The prompt, and what follows from the agent's first own turn on."""
    exact = _leading(said, item, "prompt_messages", where)
    if exact is not None:
        if exact < len(said) and said[exact].role != "assistant":
            problem = f"message {exact} after the prompt is not the agent's"
            raise bad(where, "prompt_messages", problem, "count the messages before its first turn")
        return prompt_of(said[:exact], where), said[exact:]
    icl = _leading(said, item, "icl_messages", where)
    first = len(said)
    for number, each in enumerate(said):
        if each.role == "assistant" and number >= (icl or 0) and not _acknowledges(said, number):
            first = number
            break
    return prompt_of(said[:first], where), said[first:]


def _leading(said: list[Said], item: Mapping[str, Any], key: str, where: str) -> int | None:
    value = item.get(key)
    if value is not None and (type(value) is not int or not 0 <= value <= len(said)):
        raise bad(where, key, f"{brief(value)} is not a number of leading messages")
    return value


def _acknowledges(said: list[Said], number: int) -> bool:
    """The agreement to an instruction, or a head that is not to be learnt; never the last reply."""
    here, after = said[number], said[number + 1 : number + 2]
    if here.loss or here.message.tool_calls or not after or after[0].role != "user":
        return False
    text = here.message.content.strip().rstrip(".!").lower()
    return here.loss is False or (number <= 2 and text in ("ok", "okay"))


def _outcome(item: Mapping[str, Any], source: str, where: str, notes: Notes) -> tuple[float, StopReason, str]:
    meta = _meta(item)
    stated = item.get("reward")
    if "reward" not in meta:
        if stated is None and source != "expert":
            raise bad(
                where, "reward", "the field is missing", "give the episode's reward, a number in [0, 1]"
            )
        if stated is None and item.get("success") is False:
            raise bad(
                where,
                "success",
                "an expert's missing reward counts as 1, and this item failed",
                "give its reward, or delete the item",
            )
        return _reward(1.0 if stated is None else stated, where, "reward"), StopReason.TERMINATED, ""
    reason = str(meta.get("terminate_reason") or "")
    if stated is None and (meta["reward"] is None or reason == _CALLED_OFF):
        return 0.0, StopReason.ENGINE_FAILED, reason or "no reward recorded"
    reward = _reward(
        meta["reward"] if stated is None else stated, where, "meta.reward" if stated is None else "reward"
    )
    if (
        stated is not None
        and meta["reward"] is not None
        and _reward(meta["reward"], where, "meta.reward") != reward
    ):
        raise bad(
            where, "reward", f"{reward:g} here, {brief(meta['reward'])} in 'meta'", "keep one of the two"
        )
    stop = StopReason.OUT_OF_TURNS if reason == "max_steps" else StopReason.TERMINATED
    return reward, stop, ""


def _reward(value: Any, where: str, key: str) -> float:
    return reward_of(float(value) if isinstance(value, bool) else value, where, key)
