"""Other tools' conversations: ShareGPT and OpenAI messages in, ShareGPT and TRL pairs in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eto.contrast import shared_turns
from eto.errors import InputError
from eto.records import bad, check_prompt, need, reward_of
from eto.types import Message, Pair, Role, StopReason, Task, Trajectory, Turn

_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
_CALLED_OFF = "exceeding maximum input length"
"""What the ETO rollout code writes for every exception of its model server."""


@dataclass(frozen=True, slots=True)
class _Said:
    """One message of a conversation, and whether it is set apart as not the agent's own work."""

    role: Role
    content: str
    given: bool


def trajectory_from_conversation(
    item: dict[str, Any], where: str, *, source: str | None = None
) -> Trajectory:
    """The trajectory of a ShareGPT or OpenAI item.

    The prompt ends before the agent's first own turn: acknowledgements (`OK`, or marked
    `loss: false` or `weight: 0`) and the first `icl_messages` belong to it. Reward from
    `reward` or `meta.reward`; without one an expert's counts as 1 (as in the ETO data),
    any other is an error. A rollout whose `meta.reward` is null died with the model's
    server: it comes back as failed. Raises `InputError` naming `where` and the field.
    """
    task = _task(item, where)
    who = source or item.get("source") or "expert"
    said = _conversation(item, "conversations" if "conversations" in item else "messages", where)
    reward, stop, detail = _outcome(item, str(who), where)
    prompt, rest = _split(said, item.get("icl_messages"), where)
    if not rest and stop is not StopReason.ENGINE_FAILED:
        raise InputError(
            "no agent turn",
            where=where,
            mend="delete the item: there is nothing to learn from (a lone OK is not a turn)",
        )
    success = item.get("success")
    return Trajectory(
        task=task,
        messages=prompt,
        turns=_turns(rest, reward),
        reward=reward,
        # The success flag in `meta` is True for any purchase or any end: not success.
        success=success if isinstance(success, bool) else None,
        stop=stop,
        source=str(who),
        detail=detail,
    )


def pair_from_conversations(item: dict[str, Any], where: str, number: int = 0) -> Pair:
    """The pair of a ShareGPT or TRL item; without an `id` it is named by `number`.

    Rewards are unknown in these forms: chosen stands at 1, rejected at 0.
    """
    task = _task(item if item.get("id") is not None else {**item, "id": f"pair-{number}"}, where)
    prompt = [Message(each.role, each.content) for each in _conversation(item, "prompt", where, order=False)]
    check_prompt(prompt, f"{where}, field 'prompt'")
    sides = []
    for side, reward in (("chosen", 1.0), ("rejected", 0.0)):
        said = _conversation(item, side, where, order=False)
        _check_order(said, ("assistant", "user"), f"{where}, field '{side}'")
        if not said:
            raise bad(where, side, "no agent turn", "delete the pair, or give both sides a turn")
        turns = _turns(said, reward)
        stop = StopReason.TERMINATED
        sides.append(Trajectory(task, tuple(prompt), turns, reward, None, stop, "imported"))
    chosen, rejected = sides
    return Pair(task, chosen, rejected, shared_turns(chosen, rejected))


def pair_to_sharegpt(pair: Pair) -> dict[str, Any]:
    """`id`, and `prompt`, `chosen`, `rejected` as lists of `from`/`value`, as the ETO code reads."""
    return {"id": pair.task.id, **_sides(pair, lambda role, text: {"from": _SPEAKERS[role], "value": text})}


def pair_to_trl(pair: Pair) -> dict[str, Any]:
    """`prompt`, `chosen`, `rejected` as lists of `role`/`content` (TRL conversational preference)."""
    return {"id": pair.task.id, **_sides(pair, lambda role, text: {"role": role, "content": text})}


def _sides(pair: Pair, say: Any) -> dict[str, Any]:
    return {
        "prompt": [say(each.role, each.content) for each in pair.chosen.messages],
        "chosen": _exchange(pair.chosen, say),
        "rejected": _exchange(pair.rejected, say),
    }


def _exchange(trajectory: Trajectory, say: Any) -> list[dict[str, str]]:
    """Actions and observations in turn, ending on an action: nothing answers the last observation."""
    said = []
    for turn in trajectory.turns:
        said += [say("assistant", turn.action), say("user", turn.observation)]
    return said[:-1]


def _task(item: dict[str, Any], where: str) -> Task:
    game = _game(item)
    given = "/".join(game) if game else item.get("id", item.get("item_id"))
    if given is None or given == "" or not isinstance(given, str | int) or isinstance(given, bool):
        raise bad(where, "id", "the field is missing", "give every item the id of its task (text or number)")
    parts = [part for part in str(given).split("/") if part]
    kind = parts[-2] if len(parts) > 1 else "imported"
    return Task(str(given), "imported", kind.split("-")[0] if game else kind, "train")


def _game(item: dict[str, Any]) -> list[str]:
    """Task and trial folder of an ALFWorld game, [] elsewhere: its numbers are no stable ids.

    Expert data names the game in `game_file`; the ETO rollouts hide it in `meta.error`.
    """
    meta = item.get("meta")
    path = item.get("game_file") or (meta.get("error") if isinstance(meta, dict) else None)
    if not isinstance(path, str) or not ("game_file" in item or path.endswith(".tw-pddl")):
        return []
    return [part for part in path.split("/") if part and not part.endswith(".tw-pddl")][-2:]


def _conversation(item: dict[str, Any], key: str, where: str, *, order: bool = True) -> list[_Said]:
    said = []
    for number, message in enumerate(need(item, key, list, where)):
        place = f"{where}, {key}[{number}]"
        if not isinstance(message, dict):
            raise InputError("expected an object, a message", where=place, mend="correct it")
        role_key, text_key = ("from", "value") if "from" in message else ("role", "content")
        speaker = need(message, role_key, str, place)
        if speaker not in _ROLES:
            raise bad(place, role_key, f"unknown role {speaker!r}", f"use one of {', '.join(_ROLES)}")
        given = message.get("loss") is False or message.get("weight") == 0
        said.append(_Said(_ROLES[speaker], need(message, text_key, str, place), given))
    if order:
        start = 1 if said and said[0].role == "system" else 0
        _check_order(said[start:], ("user", "assistant"), f"{where}, {key}", start)
    return said


def _check_order(said: list[_Said], roles: tuple[Role, Role], where: str, start: int = 0) -> None:
    for number, each in enumerate(said):
        if each.role != roles[number % 2]:
            raise InputError(
                f"roles out of order: {each.role} where {roles[number % 2]} was expected",
                where=f"{where}[{number + start}]",
                mend="let user and agent take turns, after at most one system message",
            )


def _split(said: list[_Said], icl: Any, where: str) -> tuple[tuple[Message, ...], list[_Said]]:
    """The prompt, and what follows from the agent's first own turn on."""
    if icl is not None and (type(icl) is not int or not 0 <= icl <= len(said)):
        raise bad(where, "icl_messages", f"{icl!r} is not a number of leading messages")
    first = len(said)
    for number, each in enumerate(said):
        if each.role == "assistant" and number >= (icl or 0) and not _acknowledges(each, number):
            first = number
            break
    prompt = [Message(each.role, each.content) for each in said[:first]]
    check_prompt(prompt, where)
    return tuple(prompt), said[first:]


def _acknowledges(said: _Said, number: int) -> bool:
    """The agreement to an instruction, not an action: only ever the first reply of all."""
    return said.given or (number <= 2 and said.content.strip().rstrip(".!").lower() in ("ok", "okay"))


def _turns(said: list[_Said], reward: float) -> tuple[Turn, ...]:
    """Turns of an exchange that begins with the agent. Only the last one's reward is known."""
    count = (len(said) + 1) // 2
    turns = []
    for number in range(count):
        answer = said[2 * number + 1].content if 2 * number + 1 < len(said) else ""
        known = reward if number == count - 1 else 0.0
        turns.append(Turn(said[2 * number].content, answer, known))
    return tuple(turns)


def _outcome(item: dict[str, Any], source: str, where: str) -> tuple[float, StopReason, str]:
    meta = item.get("meta")
    if "reward" in item or not isinstance(meta, dict) or "reward" not in meta:
        value = item.get("reward")
        if value is None and source != "expert":
            raise bad(
                where, "reward", "the field is missing", "give the episode's reward, a number in [0, 1]"
            )
        return _reward(1.0 if value is None else value, where, "reward"), StopReason.TERMINATED, ""
    reason = str(meta.get("terminate_reason") or "")
    if meta["reward"] is None or reason == _CALLED_OFF:
        return 0.0, StopReason.ENGINE_FAILED, reason or "no reward recorded"
    stop = StopReason.OUT_OF_TURNS if reason == "max_steps" else StopReason.TERMINATED
    return _reward(meta["reward"], where, "meta.reward"), stop, ""


def _reward(value: Any, where: str, key: str) -> float:
    return reward_of(float(value) if isinstance(value, bool) else value, where, key)
