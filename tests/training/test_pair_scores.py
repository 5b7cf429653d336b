"""Log-probs of the turns of pairs, beside those of a plain forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eto.data.pair_scores import (
    PairScores,
    SideScores,
    append_sums,
    paired,
    read_scores,
    read_sums,
    read_unscored,
    sums_of,
    write_scores,
)
from eto.errors import InputError
from eto.training.learner import Learner
from eto.training.pair_scores import turn_log_probs
from eto.types import Pair, Trajectory, Turn
from tests.helpers.tiny import tiny_model, tiny_tokenizer, trajectory

WON = trajectory(("go north", "A hall."), ("take the apple", "Taken."))
LOST = trajectory(("go north", "A hall."), ("wait", "Nothing."), ("read book", "Nothing."), reward=0.1)


def learner(**options: int) -> Learner:
    tokenizer = tiny_tokenizer()
    return Learner(tiny_model(len(tokenizer)), tokenizer, dtype="float32", **options)


def plainly(policy: Learner, played: Trajectory) -> list[float]:
    """Of each turn, from the logits of the whole sequence."""
    [sample] = policy.renderer.samples(played)
    ids = torch.tensor([sample.ids])
    with torch.no_grad():
        scores = policy.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    turns = torch.tensor(sample.turns[1:])
    return [float(scores[turns == number].sum()) for number in range(len(played.turns))]


def test_sums_are_those_of_a_plain_forward_pass() -> None:
    policy = learner()
    [scored] = turn_log_probs(policy, [Pair(WON.task, WON, LOST, 1)])
    assert scored is not None
    for side, played in zip(scored, (WON, LOST), strict=True):
        assert side.sums == pytest.approx(plainly(policy, played), abs=1e-3)
        assert side.tokens == tuple(len(policy.renderer.action_ids(turn.action)) for turn in played.turns)
    assert scored[0].sums[0] == scored[1].sums[0], "what both share"


def test_turns_that_carry_no_loss_or_do_not_fit_have_none() -> None:
    silent = trajectory(("go north", "A hall."), ("wait", "Nothing."))
    first = Turn("go north", "A hall.", loss=False)
    silent = Trajectory(**{**vars_of(silent), "turns": (first, silent.turns[1])})
    mute = Trajectory(**{**vars_of(silent), "turns": (first,)})
    policy = learner()
    room = len(policy.renderer.samples(WON)[0].ids)
    with pytest.warns(UserWarning, match="do not fit"):
        scored = list(
            turn_log_probs(
                learner(max_context=room),
                [Pair(WON.task, WON, LOST, 1), Pair(WON.task, WON, silent, 0), Pair(WON.task, WON, mute, 0)],
            )
        )
    cut, quiet, none = scored
    assert none is None, "a side without loss"
    assert cut is not None and cut[1].tokens[-1] == 0 and cut[1].sums[-1] is None
    assert quiet is not None and quiet[1].sums[0] is None and quiet[1].sums[1] is not None


def vars_of(played: Trajectory) -> dict[str, object]:
    return {name: getattr(played, name) for name in Trajectory.__slots__}


def test_changes_by_hand_kept_in_a_file(tmp_path: Path) -> None:
    chosen = SideScores((3, 0, 2), (-2.0, None, -1.5), (-1.0, None, -2.0))
    rejected = SideScores((3,), (-2.0,), (-5.0,))
    assert chosen.changes == (1.0, None, -0.5) and chosen.change == 0.5 and rejected.change == -3.0
    scores = PairScores(4, "tiny/0", "sft", "eto-1", chosen, rejected)
    path = tmp_path / "scores.jsonl"
    write_scores(path, [scores])
    assert read_scores(path) == {4: scores} and read_scores(tmp_path / "none") == {}
    row = json.loads(path.read_text())
    for broken in (
        {"tokens": [3], "before": [-2.0]},
        {"tokens": [3], "before": [-2.0, 1.0], "after": [1.0]},
        {"tokens": [3], "before": ["low"], "after": [1.0]},
        "none",
    ):
        path.write_text(json.dumps(row | {"rejected": broken}) + "\n")
        with pytest.raises(InputError, match="damaged"):
            read_scores(path)


def test_pairs_that_could_not_be_scored_are_kept_apart(tmp_path: Path) -> None:
    policy = learner()
    pair = Pair(WON.task, WON, LOST, 1)
    [scored] = turn_log_probs(policy, [pair])
    task, path = WON.task.id, tmp_path / "sums.jsonl"
    sums = {("a", 7, task): scored, ("b", 7, task): scored, ("a", 8, task): None, ("b", 8, task): scored}
    append_sums(path, sums)
    assert read_sums(path) == sums and read_sums(tmp_path / "none") == {}
    scores, unscored = paired([(7, task), (8, task)], ("a", "b"), sums)
    assert [(each.place, each.chosen.change) for each in scores] == [(7, 0.0)] and unscored == {8: task}
    write_scores(path, scores, unscored)
    assert list(read_scores(path)) == [7] and read_unscored(path) == {8: task}
    assert sums_of(scores) == {key: value for key, value in sums.items() if key[1] == 7}
