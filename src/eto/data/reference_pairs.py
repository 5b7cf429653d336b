"""The pair rules of the ETO authors' code, kept bit for bit for comparison.

Works on ShareGPT items (dicts) as that code reads and writes them. The project's own rule
is `eto.contrast`; docs/contrast.md lists where the two differ and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eto.data.checks import bad, is_finite, need, reward_of
from eto.data.foreign.messages import read_message
from eto.data.foreign.preferences import pair_from_item
from eto.data.jsonfiles import read_items, write_text
from eto.data.notes import Notes
from eto.data.texts import brief
from eto.errors import InputError
from eto.types import Pair

ReferenceEnvironment = Literal["webshop", "sciworld", "alfworld"]
Item = dict[str, Any]

_MARGIN_MESSAGES = 10
"""Five rounds of two messages beyond the expert's."""
_TASK_PREFIX = len("Task Description:\n")


@dataclass(frozen=True, slots=True)
class _Rule:
    offset: int
    """Messages of a rollout before its task: instruction, OK and the example."""
    capped: bool
    """Whether a rejected rollout is cut at the expert's length plus the margin."""


_RULES: dict[str, _Rule] = {
    "webshop": _Rule(offset=10, capped=True),
    "sciworld": _Rule(offset=16, capped=True),
    "alfworld": _Rule(offset=12, capped=False),
}


def reference_pairs(
    expert_items: Sequence[Item],
    explored_items: Iterable[Item],
    environment: ReferenceEnvironment | None = None,
) -> list[Item]:
    """The reference's preference pairs, sorted by id (as text).

    `expert_items` have `id` and `conversations` (instruction, OK, task, turns), plus
    `reward` (WebShop) or `game_file` (ALFWorld); `explored_items` have `id`, `meta` and
    `conversations`, and may state their `icl_messages`. Which of the three rules applies
    is read from the expert items unless `environment` says. Later items of an id replace
    earlier ones. Returns `id`, `prompt`, `chosen`, `rejected`, messages as `from`/`value`.

    One departure: a rollout without an agent turn gives no pair; the reference crashes.
    Raises `InputError` for an unknown environment or an item lacking a field.
    """
    environment = environment or recognise(expert_items)
    if environment not in _RULES:
        raise InputError(
            f"unknown environment {environment!r} of the reference rules",
            hint=f"use one of {', '.join(_RULES)}",
        )
    explored: dict[str, tuple[float, list[Item]]] = {}
    for number, item in enumerate(explored_items):
        own = _explored(item, environment, f"explored item [{number}]")
        if own is not None:
            explored[own[0]] = own[1:]
    experts = dict(_expert(item, environment, f"expert item [{n}]") for n, item in enumerate(expert_items))
    pairs = []
    for key in sorted(experts):
        if key in explored:
            pair = _pair(key, *experts[key], *explored[key], _RULES[environment])
            if pair is not None:
                pairs.append(pair)
    return pairs


def recognise(expert_items: Sequence[Item]) -> ReferenceEnvironment:
    """WebShop where expert items have a `reward`, ALFWorld where a `game_file`, else ScienceWorld."""
    if any("game_file" in item for item in expert_items):
        return "alfworld"
    return "webshop" if any("reward" in item for item in expert_items) else "sciworld"


def read_reference_items(path: str | Path) -> list[Item]:
    """The items of a JSON list or JSON lines file. Raises `InputError` naming line or item."""
    items = []
    for where, item in read_items(path):
        _messages(item, where)
        items.append(item)
    return items


def write_reference_pairs(path: str | Path, pairs: Iterable[Mapping[str, Any]]) -> None:
    """Write pairs as the reference does, one JSON list; all or nothing. Raises as `write_pairs`."""
    write_text(path, [json.dumps([dict(pair) for pair in pairs], indent=1), "\n"])


def pairs_from_reference(pairs: Iterable[Item]) -> list[Pair]:
    """The reference's pairs as `Pair`s to train on; their rewards stand as 1 and 0."""
    return [pair_from_item(item, f"pair [{n}]", n) for n, item in enumerate(pairs)]


def _messages(item: Item, where: str) -> list[Item]:
    messages = need(item, "conversations", list, where)
    for number, message in enumerate(messages):
        place = f"{where}, conversations[{number}]"
        if not isinstance(message, dict) or not {"from", "value"} <= message.keys():
            raise InputError(
                "expected a message with from and value",
                where=place,
                hint="give the reference rules ShareGPT items, as the ETO data has",
            )
        need(message, "value", str, place)
        # What is refused elsewhere is refused here; marks and roles go into the pairs as they are.
        read_message(message, place, Notes())
    return messages


def _expert(item: Item, environment: str, where: str) -> tuple[str, tuple[list[Item], float, list[Item]]]:
    """Key, and (instruction and OK, reward, task and turns)."""
    messages = _messages(item, where)
    if len(messages) < 3:
        raise bad(where, "conversations", "no task after the instruction and its OK")
    if environment == "alfworld":
        key = need(item, "game_file", str, where).split("/")[-1]
    else:
        key = str(need(item, "id", (str, int), where))
    reward = reward_of(need(item, "reward", object, where), where) if environment == "webshop" else 1.0
    return key, (messages[:2], reward, messages[2:])


def _explored(item: Item, environment: str, where: str) -> tuple[str, float, list[Item]] | None:
    """Key, reward, task and turns; None for what the reference skips."""
    meta = need(item, "meta", dict, where)
    stated = "icl_messages" in item
    offset = need(item, "icl_messages", int, where) if stated else _RULES[environment].offset
    if offset < 0:
        raise bad(where, "icl_messages", f"{brief(offset)} is not a number of leading messages")
    messages = _messages(item, where)[offset:]
    if messages and messages[-1]["from"] == "human":
        messages = messages[:-1]
    reward = need(meta, "reward", (int, float, bool, type(None)), f"{where}, meta")
    if reward is not None and not is_finite(reward):
        raise bad(
            where, "meta.reward", f"{brief(reward)} is not a finite number", "give the episode's reward"
        )
    if environment == "alfworld":
        parts = str(meta.get("error") or "").split("/")
        return (parts[-2], 1.0 if reward else 0.0, messages) if len(parts) > 1 else None
    if reward is None:
        return None
    if environment == "sciworld" and messages:
        task = messages[0]["value"][_TASK_PREFIX:].strip()
        messages = [{**messages[0], "value": task}, *messages[1:]]
    return str(need(item, "id", (str, int), where)), reward, messages


def _pair(
    key: str,
    head: list[Item],
    expert_reward: float,
    expert: list[Item],
    explored_reward: float,
    explored: list[Item],
    rule: _Rule,
) -> Item | None:
    if explored_reward < expert_reward:
        cut = explored[: len(expert) + _MARGIN_MESSAGES] if rule.capped else explored
        task, chosen, rejected = expert[0], expert[1:], cut[1:]
    elif explored_reward > expert_reward and explored:
        task, chosen, rejected = explored[0], explored[1:], expert[1:]
    else:
        return None
    if any(not side or side[-1]["from"] != "gpt" for side in (chosen, rejected)):
        return None
    return {"id": key, "prompt": [*head, task], "chosen": chosen, "rejected": rejected}
