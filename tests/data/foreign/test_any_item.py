"""Whatever stands in an item, it is read or refused in one message; lists of fields hold what they say."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_preferences import ONE_REPLY, called

from eto.data.foreign.lists import MESSAGE, PAIR, TRAJECTORY
from eto.data.formats import (
    pair_to_record,
    read_pairs,
    read_sides,
    read_trajectories,
    trajectory_to_record,
)
from eto.errors import InputError
from tests.data.test_tables import ITEMS

SHAREGPT = {
    "id": 1,
    "system": "Shop.",
    "tools": '[{"name": "search"}]',
    "icl_messages": 2,
    "source": "me",
    "meta": {"reward": 0.5, "terminate_reason": "max_steps"},
    "conversations": [
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "OK"},
        {"from": "human", "value": "b"},
        {"from": "gpt", "value": "I search."},
        {"from": "function_call", "value": '{"name": "search", "arguments": {}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "c", "loss": False},
        {"from": "human", "value": "d"},
        {"from": "gpt", "value": [{"type": "text", "text": "e"}]},
    ],
}
OWN = [trajectory_to_record(called().chosen), pair_to_record(called())]
BASES: list[dict[str, Any]] = [*ONE_REPLY.values(), *ITEMS, SHAREGPT, *OWN]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.5, 17.0, 10**30, 10**400, float("nan"), float("inf")),
    *("", " ", "a", "{}", "[1]", "{", "1.0", "\ud83d", "x" * 300, [], {}, [[]], [{}], [None], ["a", "b"]),
    *(
        {"role": "user", "content": "z"},
        [{"from": "gpt", "value": "z"}],
        {"a": {"b": [1]}},
        [{"type": "text"}],
    ),
]
KEYS = sorted({*TRAJECTORY.known, *PAIR.known, *MESSAGE.known, "turns", "task", "arguments", "foo"})


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from places(each, (*place, key))


def spoilt(item: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """`item` with one to three values replaced, left out or added."""
    item = copy.deepcopy(item)
    for _ in range(draw.choice([1, 1, 2, 3])):
        *way, last = draw.choice(list(places(item)) or [("id",)])
        holder: Any = item
        for key in way:
            holder = holder[key]
        value = copy.deepcopy(draw.choice(VALUES))
        change = draw.choice(["set", "set", "add", "delete"])
        if change == "delete" and holder:
            del holder[last]
        elif change == "add" and isinstance(holder, dict):
            holder[draw.choice(KEYS)] = value
        else:
            holder[last] = value
    return item


@pytest.mark.parametrize("seed", range(len(BASES)))
def test_an_item_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    draw, path = random.Random(seed), tmp_path / "a.jsonl"
    outcomes = set()
    for _ in range(100):
        item = spoilt(BASES[seed], draw)
        path.write_text(json.dumps(item))
        for read in (read_trajectories, read_pairs, read_sides):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    for found in read(path):
                        make = pair_to_record if read is read_pairs else trajectory_to_record
                        json.dumps(make(found))
                    outcomes.add("read")
                except InputError as error:
                    assert error.hint and str(path) in error.where and len(str(error)) < 1500, item
                    outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def refused_names() -> Iterator[tuple[str, str]]:
    for fields in (TRAJECTORY, PAIR, MESSAGE):
        for one in fields.refused:
            yield from ((fields.kind, name) for name in one.names)


@pytest.mark.parametrize(("kind", "name"), list(refused_names()))
def test_a_field_that_the_table_refuses_is_refused_by_name(tmp_path: Path, kind: str, name: str) -> None:
    read = read_pairs if kind == PAIR.kind else read_trajectories
    item = copy.deepcopy(ONE_REPLY["TRL, messages"] if kind == PAIR.kind else ITEMS[1])
    (item["messages"][1] if kind == MESSAGE.kind else item)[name] = "something"
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(item))
    with pytest.raises(InputError, match=f"'{name}'") as caught:
        read(path)
    assert caught.value.hint
    for nothing in (None, "", [], {}):
        (item["messages"][1] if kind == MESSAGE.kind else item)[name] = nothing
        path.write_text(json.dumps(item))
        assert len(read(path)) == 1


def test_no_name_is_both_read_and_refused() -> None:
    for fields in (TRAJECTORY, PAIR, MESSAGE):
        names = [*fields.known, *fields.ignored]
        assert sorted(names) == sorted(set(names)), fields.kind
