"""`eto score-pairs`: what was scored is not scored again, and an interrupted scoring goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import Command
from small_run import episode, make_run
from unwritable import unwritable

from eto.data.formats import write_pairs
from eto.data.pair_scores import FILE, Scored, SideSums, read_scores
from eto.errors import MissingRequirement
from eto.types import Pair

PAIRS = 5


class Judge:
    """In place of a learner: an agent's turns have its number as log-prob. Pair 3 cannot be scored."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        """The stage of the weights and the task of each pair that was scored."""
        self.broken_at = 10**9
        self._stage = ""

    def load(self, model: Path) -> None:
        self._stage = model.parent.name

    def scores(self, learner: Judge, pairs: Sequence[Pair]) -> Iterator[Scored | None]:
        for pair in pairs:
            number = int(pair.task.id.split("/")[-1])
            if len(self.calls) == self.broken_at:
                raise MissingRequirement("no memory left")
            self.calls.append((self._stage, number))
            value = -1.0 if self._stage == "sft" else -3.0
            sides = [
                SideSums((1,) * len(side.turns), (value,) * len(side.turns))
                for side in (pair.chosen, pair.rejected)
            ]
            yield None if number == 3 else (sides[0], sides[1])


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    made = Judge()
    monkeypatch.setattr("eto.cli.score_pairs.policy_of", lambda recipe: made)
    monkeypatch.setattr("eto.training.pair_scores.turn_log_probs", made.scores)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = make_run(tmp_path / "run")
    for stage in ("sft", "dpo-1"):
        (directory / "stages" / stage / "model").mkdir()
    pairs = []
    for number in range(PAIRS):
        sides = episode(number, True, "expert", "train"), episode(number, False, "sft", "train")
        pairs.append(Pair(sides[0].task, *sides, 1))
    write_pairs(directory / "stages" / "contrast-1" / "pairs.jsonl", pairs)
    return directory


def kept(run: Path) -> dict[int, Any]:
    return read_scores(run / "stages" / "dpo-1" / FILE)


def test_what_is_scored_stays(run: Path, judge: Judge, command: Command) -> None:
    assert "2 of 2 pairs" in command.succeeds("score-pairs", run, "--limit", 2)
    assert judge.calls == [("sft", 0), ("sft", 1), ("dpo-1", 0), ("dpo-1", 1)]
    judge.calls.clear()
    assert "4 of 5 pairs" in command.succeeds("score-pairs", run)
    assert judge.calls == [(stage, number) for stage in ("sft", "dpo-1") for number in (2, 3, 4)]
    assert set(kept(run)) == {0, 1, 2, 4} and kept(run)[4].chosen.change == -4.0
    judge.calls.clear()
    (run / "stages" / "contrast-own").mkdir()
    (run / "stages" / "contrast-own" / "pairs.jsonl").touch()  # of a method of one's own
    with unwritable(run):
        said = command.succeeds("score-pairs", run)
    assert "4 of 5 pairs" in said and "chosen -4.00 nats" in said and judge.calls == []
    command.succeeds("score-pairs", run, "--limit", 1)
    assert set(kept(run)) == {0, 1, 2, 4}, "a lower limit forgets none"


def test_an_interrupted_scoring_goes_on(run: Path, judge: Judge, command: Command) -> None:
    judge.broken_at = 7
    command.fails("score-pairs", run, says=["no memory left"])
    assert kept(run) == {}
    judge.broken_at = 10**9
    assert "resuming: 7 of 10 scores are kept" in command.succeeds("score-pairs", run)
    assert sorted(judge.calls) == sorted((stage, number) for stage in ("sft", "dpo-1") for number in range(5))
    assert len(kept(run)) == 4
    left = [path.name for path in (run / "stages" / "dpo-1").iterdir()]
    assert not any(name.endswith(".part") for name in left)


def test_what_cannot_be_kept_is_told_before_anything_is_scored(
    run: Path, judge: Judge, command: Command
) -> None:
    with unwritable(run):
        command.fails("score-pairs", run, says=["cannot write here", "dpo-1"])
    assert judge.calls == []
    command.fails("score-pairs", run, "--round", 2, says=["round 2 has no pairs", "trained on: 1"])
