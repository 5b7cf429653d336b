"""Comparisons joined from their files come to what one comparison of all would have come to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eto.data.files import read_json
from eto.errors import InputError
from eto.evaluation.comparison_files import (
    Compared,
    comparison_tables,
    join,
    read_comparison,
    write_comparison,
)
from eto.evaluation.costs import Costs
from eto.evaluation.outcomes import Outcome
from eto.evaluation.parts import parts_markdown

TASKS = [f"task-{number}" for number in range(12)]
SETTINGS = {"name": "rft", "tasks.train_per_kind": 32, "method.sft.epochs": 6}


def outcome(label: str, seed: int, shift: int) -> Outcome:
    solved = {task: float((number * 7 + shift + seed) % 3 == 0) for number, task in enumerate(TASKS)}
    values = {"reward": {task: 0.2 + 0.7 * value for task, value in solved.items()}, "success": solved}
    return Outcome(seed, f"{label}/seed-{seed}", "rft", False, values, Costs(10, 20 + seed, 30, 1.5))


def parts(*seeds: int, names: tuple[str, ...] = ("rft", "kto")) -> list[Compared]:
    found = []
    for number, name in enumerate(names):
        for label, control in ((name, ""), (f"{name}: as many", "as many")):
            each = tuple(outcome(label, seed, number + 2 * bool(control)) for seed in seeds)
            others = tuple(replace(one, agent="rft-2", costs=one.costs) for one in each if one.seed == 1)
            settings: dict[str, Any] = {} if control else SETTINGS | {"name": name}
            found.append(Compared(label, name, control, False, settings, each, others))
    return found


def written(directory: Path, found: list[Compared]) -> Path:
    directory.mkdir()
    write_comparison(comparison_tables(found, max(len(part.shipped) for part in found)), directory)
    return directory


@pytest.mark.parametrize("seeds", [[(0,), (1,), (2,)], [(1, 2), (0,)], [(0, 1), (1, 2)]])
def test_seeds_of_several_places(tmp_path: Path, seeds: list[tuple[int, ...]]) -> None:
    pieces = [written(tmp_path / f"piece-{number}", parts(*each)) for number, each in enumerate(seeds)]
    joined = join({str(piece): read_comparison(piece) for piece in pieces})
    whole = written(tmp_path / "whole", parts(0, 1, 2))
    assert read_json(written(tmp_path / "joined", joined) / "comparison.json") == read_json(
        whole / "comparison.json"
    )
    assert (tmp_path / "joined" / "comparison.md").read_text() == (whole / "comparison.md").read_text()
    differences = read_json(whole / "comparison.json")["rft"]["differences"]["as many"]["success"]
    assert len(differences["each"]) == 3 and differences["seeds_low"] is not None


def test_recipes_of_several_places(tmp_path: Path) -> None:
    pieces = [written(tmp_path / name, parts(0, names=(name,))) for name in ("rft", "kto")]
    joined = join({str(piece): read_comparison(piece / "comparison.json") for piece in pieces})
    assert [part.label for part in joined] == ["rft", "rft: as many", "kto", "kto: as many"]
    text = parts_markdown(comparison_tables(joined, 1).parts)
    assert "| kto: as many | 1 |" in text and "not finished" not in text


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    first = parts(0)
    other = [
        replace(part, recipe=part.recipe | {"method.sft.epochs": 3}) if part.recipe else part
        for part in first
    ]
    with pytest.raises(InputError, match=r"another recipe here than in a\n.*epochs: 6 -> 3"):
        join({"a": first, "b": other})
    worse = replace(first[0].shipped[0], agent="sft")
    again = [replace(first[0], shipped=(worse,)), *first[1:]]
    with pytest.raises(InputError, match="seed 0 of rft/seed-0 ended otherwise than in a") as caught:
        join({"a": first, "b": again})
    assert caught.value.where == "b"
    slower = [
        replace(part, shipped=tuple(replace(one, costs=Costs(10, 20, 30, 99.0)) for one in part.shipped))
        for part in first
    ]
    assert join({"a": first, "b": slower}) == first, "the same run, measured twice"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "this is no comparison"),
        ("[1]", "this is no comparison"),
        ('{"rft": 3}', "this is no comparison"),
        ('{"rft": {"seeds": 1}}', "rft has no outcomes by task"),
        ('{"rft": {"part": {"label": "rft"}}}', r"rft\.part\.of: Field required"),
        ('{"rft": ', "cut|JSON"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        read_comparison(tmp_path)
    assert str(file) in str(caught.value.where)


def test_a_wrong_value_is_named(tmp_path: Path) -> None:
    piece = written(tmp_path / "piece", parts(0))
    table = read_json(piece / "comparison.json")
    table["rft"]["part"]["shipped"][0]["values"]["reward"]["task-3"] = "high"
    (piece / "comparison.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"rft\.part\.shipped\.0\.values\.reward\.task-3: Input should be"):
        read_comparison(piece)
