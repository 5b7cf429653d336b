"""Closeness as a stage, in a real run directory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from eto.errors import InputError
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.run_records import read_done
from eto.settings.similarity import SimilaritySettings
from eto.steps.nearing import check_encoder, nearness
from eto.types import Message, StopReason, Task, Trajectory, Turn

RECIPE = parse_recipe("name: small\nenvironment: {name: toy}\n")


def episode(kind: str, actions: str, sample: int = 0) -> Trajectory:
    turns = tuple(Turn(f"go {action}", f"room {action}") for action in actions)
    task = Task(f"toy/{kind}/1", "toy", kind, "train")
    return Trajectory(
        task, (Message("user", "Go."),), turns, 0.0, None, StopReason.OUT_OF_TURNS, "sft", sample
    )


def test_a_task_type_without_a_preferred_set_has_no_closeness(tmp_path: Path) -> None:
    said: list[str] = []
    explored = [
        episode("find", "ab"),
        episode("find", "xy", 1),
        episode("grow", "ab"),
        episode("grow", "", 1),
    ]
    preferred = {"find": [episode("find", "abc", 7)]}
    with Run.open(tmp_path / "run", RECIPE) as run:
        lab = SimpleNamespace(run=run, watch=SimpleNamespace(say=said.append))
        found = nearness(lab, explored, preferred, SimilaritySettings())
        assert list(found) == [("toy/find/1", 0), ("toy/find/1", 1)]
        assert found["toy/find/1", 0] > found["toy/find/1", 1]
        assert said == ["nothing preferred of grow: closeness says nothing there"]
        noted = read_done(tmp_path / "run" / "stages" / "nearness-1" / "DONE")["metrics"]
        assert noted == {"episodes": 2, "preferred": {"find": 1}, "without_preferred": ["grow"]}
        assert nearness(lab, [], {}, SimilaritySettings()) == found, "what is done is read"
        assert nearness(lab, explored, {}, SimilaritySettings(), 2) == {}


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    check_encoder(SimilaritySettings())
    with pytest.raises(InputError) as error:
        check_encoder(SimilaritySettings(encoder=str(tmp_path / "none")))
    assert error.value.where.startswith("method.similarity.encoder")
