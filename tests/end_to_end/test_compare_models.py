"""`eto compare-models`: two models on the same tasks, paired; what has played stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_compare import corridor, sampling, write  # noqa: F401
from tiny import save_tiny

from eto.data.files import read_json
from eto.data.formats import read_trajectories


def test_two_models_are_paired(command, tiny_path: Path, tmp_path: Path):
    other = save_tiny(tmp_path / "other", initializer_range=0.1)
    recipe, out = write(tmp_path / "recipe.yaml", tiny_path, sampling()), tmp_path / "out"
    arguments = ("compare-models", tiny_path, other, "--recipe", recipe, "--out", out, "--split", "dev")
    text = command.succeeds(*arguments)
    first, second = (read_trajectories(out / f"{side}.jsonl") for side in ("first", "second"))
    assert [t.task.id for t in first] == [t.task.id for t in second] and len(first) == 4
    written = read_json(out / "comparison.json")
    entry = written["models"][str(other)]["difference"]["reward"]
    mean = sum(b.reward - a.reward for a, b in zip(first, second, strict=True)) / 4
    assert entry["mean"] == pytest.approx(mean) and entry["n"] == 4
    assert sum(written["tasks"].values()) == 4 and "gained" in text
    assert "| walk |" in (out / "comparison.md").read_text()

    before = (out / "second.jsonl").stat().st_mtime_ns
    (out / "first.jsonl").unlink()  # as if killed before it was whole
    again = command.succeeds(*arguments)
    assert f"{other}: {out / 'second.jsonl'} has its episodes" in again
    assert (out / "second.jsonl").stat().st_mtime_ns == before
    assert [t.actions for t in read_trajectories(out / "first.jsonl")] == [t.actions for t in first]


def test_what_cannot_be_compared_is_said(command, tiny_path: Path, tmp_path: Path):
    recipe, out = write(tmp_path / "recipe.yaml", tiny_path, sampling()), tmp_path / "out"
    common = ("--recipe", recipe, "--out", out, "--split", "dev")
    command.fails("compare-models", tiny_path, tiny_path, *common, says=["compared with itself"])
    command.fails("compare-models", tiny_path, tmp_path / "none", *common, says=["none"])
    assert not out.exists(), "the first model played before the second was looked for"
    other = save_tiny(tmp_path / "other", initializer_range=0.1)
    out.mkdir()
    (out / "first.jsonl").write_text("mine")
    command.fails(
        "compare-models", tiny_path, other, *common, says=["first.jsonl", "no comparison was begun here"]
    )
    assert (out / "first.jsonl").read_text() == "mine"
    (out / "first.jsonl").unlink()
    command.succeeds("compare-models", tiny_path, other, *common)
    command.fails("compare-models", other, tiny_path, *common, says=["another comparison is kept here"])
