"""`eto compare`: controls stand beside methods, what is equal is shared, the same command resumes."""

from __future__ import annotations

import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from coin_game import RECIPE, environment_of_child
from unwritable import unwritable

from eto.data.files import read_json
from eto.data.store import TrajectoryStore
from eto.environments import SUITES
from eto.evaluation.costs import costs_of, training_tokens
from eto.experiment.recipe import load_recipe
from eto.experiment.run_records import read_done, read_manifest
from eto.types import Phase, Trajectory

TASKS = {"train_per_kind": 12, "dev_per_kind": 4, "test_per_kind": 6}
TWO_EPOCHS = RECIPE["method"]["sft"] | {"epochs": 2}


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "corridor", ("corridor", "Corridor"))


def write(path: Path, model: Path, method: dict[str, Any], **more: Any) -> Path:
    """A recipe for the corridor, as a file."""
    game = {"name": "corridor", "options": {"rooms": 2}, "workers": 1}
    values = deepcopy(dict(RECIPE)) | {"name": "sampled", "method": method, "environment": game}
    values |= {"tasks": TASKS} | more
    values["model"]["path"] = str(model)
    path.write_text(yaml.safe_dump(values))
    return path


def sampling(**more: Any) -> dict[str, Any]:
    explore = {"samples": 2, "temperature": 1.0}
    return {"name": "rft", "sft": TWO_EPOCHS, "least_reward": 0.5, "explore": explore} | more


def episodes(run: Path, phase: Phase) -> list[Trajectory]:
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        return store.get(phase)


def said_in(episode: Trajectory) -> tuple[object, ...]:
    """What an episode is, without log-probs, whose last bits hang on what was played beside it."""
    return episode.task.id, episode.sample, [turn.said for turn in episode.turns], episode.reward


def made(out: Path) -> dict[Path, dict[str, Any]]:
    return {path: read_done(path) for path in sorted(out.rglob("DONE"))}


def weights(run: Path, stage: str) -> int:
    return (run / "stages" / stage / "model" / "model.safetensors").stat().st_ino


def test_a_comparison(tmp_path: Path, model: Path, command) -> None:
    # Long enough for a success of its own, which the method needs.
    method = sampling(sft=RECIPE["method"]["sft"] | {"epochs": 12, "batch_size": 2})
    path = write(tmp_path / "r.yaml", model, method, tasks=TASKS | {"explore_unseen": 0.5})
    out = tmp_path / "out"
    said = command.succeeds("compare", path, "--seed", "0", "--out", out)
    assert f"eto view {out}" in said

    run = out / "sampled" / "seed-0"
    everything, longer = (out / "sampled" / f"{name}-seed-0" for name in ("all-experts", "same-tokens"))
    assert load_recipe(everything / "recipe.yaml").tasks.explore_unseen == 0
    tokens = training_tokens(run)
    assert list(tokens) == ["sft", "rft"]
    [cloned] = training_tokens(longer).values()
    assert abs(cloned - sum(tokens.values())) <= tokens["sft"] / 2, "within half an epoch"
    [whole] = training_tokens(everything).values()
    assert whole > 1.5 * tokens["sft"], "twice the experts"
    assert read_manifest(everything)["taken_from"]["stages"] == ["expert"]
    row = read_json(out / "comparison.json")["sampled"]
    assert set(row["differences"]) == {"all experts cloned", "cloned for as many tokens"}
    for figure in ("reward", "success"):
        entry = row["differences"]["all experts cloned"][figure]
        assert entry["low"] <= entry["mean"] <= entry["high"] and entry["each"] == [entry["mean"]]
        assert entry["seeds_low"] is None, "one seed says nothing of others"
    assert row["last"]["agents"] == ["rft"], "the last agent, whichever dev chose"
    assert set(row["last"]["differences"]) == set(row["differences"])
    assert costs_of(run).environment_steps > 0 and costs_of(longer).environment_steps == 0
    first = made(out)

    command.succeeds("compare", path, "--seeds", "2", "--out", out)
    again = made(out)
    assert {done: again[done] for done in first} == first, "what was finished stays"
    row = read_json(out / "comparison.json")["sampled"]
    entry = row["differences"]["cloned for as many tokens"]["reward"]
    assert (
        row["seeds"] == len(entry["each"]) == 2 and entry["seeds_low"] <= entry["mean"] <= entry["seeds_high"]
    )
    assert entry["mean"] == pytest.approx(sum(entry["each"]) / 2)
    text = (out / "comparison.md").read_text()
    assert "not finished" not in text and text.endswith("![reward against cost](comparison.png)\n")
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")

    assert "| sampled | 2 |" in command.succeeds("join-comparisons", out, "--out", tmp_path / "joined")
    assert read_json(tmp_path / "joined" / "comparison.json") == read_json(out / "comparison.json")
    command.fails("join-comparisons", out, "--out", out, says=["more than a comparison's tables"])


def test_finished_runs_are_compared_where_nothing_may_be_written(
    tmp_path: Path, model: Path, command
) -> None:
    out = tmp_path / "out"
    path = write(tmp_path / "r.yaml", model, {"name": "sft", "sft": TWO_EPOCHS})
    arguments = "compare", path, "--seeds", 1, "--out", out
    table = [line for line in command.succeeds(*arguments).splitlines() if line.startswith("| sampled")]
    before = read_json(out / "comparison.json")
    (out / "comparison.json").unlink()
    with unwritable(out / "sampled"):
        assert set(table) <= set(command.succeeds(*arguments).splitlines())
    assert table and read_json(out / "comparison.json") == before
    with unwritable(out):
        done = command(*arguments)
        assert done.code == 2 and set(table) <= set(done.out.splitlines()), "printed, though not written"
        assert "cannot write here" in done.error and str(out) in done.error
        [run] = (out / "sampled").iterdir()
        forked = write(tmp_path / "fork.yaml", model, {"name": "sft", "sft": TWO_EPOCHS | {"epochs": 1}})
        command.succeeds("run", forked, "--from", run, f"run_directory={tmp_path / 'fork'}")


def test_methods_on_one_recipe_share_what_is_equal(tmp_path: Path, model: Path, command) -> None:
    out = tmp_path / "out"
    path = write(tmp_path / "r.yaml", model, sampling())
    said = command.succeeds(
        "compare", path, "--methods", "kto, sft,rft,best_of_n", "--seeds", 1, "--out", out
    )
    runs = {name: out / name / "seed-0" for name in ("kto", "sft", "rft", "best_of_n")}
    recipes = {name: load_recipe(run / "recipe.yaml").method for name, run in runs.items()}
    assert {each.sft.epochs for each in recipes.values()} == {2} and recipes["rft"].least_reward == 0.5
    assert recipes["kto"].explore.samples == 2 and recipes["best_of_n"].explore.samples == 10
    assert len({weights(run, "sft") for run in runs.values()}) == 1, "cloned once"
    explored = [read_manifest(runs[name])["taken_from"]["stages"] for name in ("kto", "rft")]
    assert sorted(explored) == [["expert", "sft", "dev-sft"], ["expert", "sft", "dev-sft", "explore-1"]]
    for phase in (Phase.evaluate("sft", "dev"), Phase.evaluate("sft", "test")):
        [first, *others] = [episodes(run, phase) for run in runs.values()]
        assert first and all(each == first for each in others), phase
    assert said.count("test of sft") >= 3

    table = read_json(out / "comparison.json")
    assert table["rft: all experts cloned"]["same_as"] == table["kto: all experts cloned"]["same_as"] == "sft"
    assert not (out / "rft" / "all-experts-seed-0").exists(), "the plain clone is no further run"
    assert table["best_of_n"]["by_reward"] and not table["best_of_n"]["differences"]
    best: dict[str, float] = {}
    for each in episodes(runs["best_of_n"], Phase.continued("best-of-n")):
        best[each.task.id] = max(best.get(each.task.id, 0.0), each.reward)
    mean = table["best_of_n"]["figures"]["reward"]["mean"]
    assert mean == pytest.approx(sum(best.values()) / len(best)) and len(best) == 6
    text = (out / "comparison.md").read_text()
    assert "| best_of_n † |" in text and "rft: all experts cloned: the recipe's own clone" in text

    alone = write(tmp_path / "alone.yaml", model, sampling(), run_directory=str(tmp_path / "alone"))
    command.succeeds("run", alone)
    for phase in (Phase.evaluate("sft", "test"), Phase.evaluate("rft", "test"), Phase.explore(1)):
        shared, anew = (episodes(run, phase) for run in (runs["rft"], tmp_path / "alone"))
        assert [said_in(each) for each in shared] == [said_in(each) for each in anew], "as if it ran alone"


@pytest.mark.long
@pytest.mark.timeout(240)
def test_an_interrupted_comparison_goes_on(tmp_path: Path, model: Path, command) -> None:
    out, coin = tmp_path / "out", RECIPE["environment"]
    explore = {"samples": 20, "temperature": 1.0}  # long enough to be stopped in
    path = write(tmp_path / "r.yaml", model, sampling(explore=explore), environment=coin)
    arguments = ["compare", str(path), "--methods", "sft,rft", "--seeds", "1", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "eto", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_of_child(),
    )
    try:
        for line in process.stdout:
            if line.startswith("explore/1"):
                break
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and error == "stopped; the same command resumes\n"
    partial = read_json(out / "comparison.json")
    assert list(partial) == ["sft"], "what is finished can be read"
    assert "rft: no seed is finished yet" in (out / "comparison.md").read_text()
    before = made(out)
    command.succeeds(*arguments)
    after = made(out)
    assert {done: after[done] for done in before} == before
    assert read_json(out / "comparison.json")["rft"]["seeds"] == 1
    assert weights(out / "rft" / "seed-0", "sft") == weights(out / "sft" / "seed-0", "sft")


def test_what_cannot_be_compared_is_refused_before_anything_runs(
    tmp_path: Path, model: Path, command
) -> None:
    out, path = tmp_path / "out", write(tmp_path / "r.yaml", model, sampling())

    def refused(*arguments: object, says: list[str]) -> None:
        command.fails("compare", *arguments, "--out", out, says=says)
        assert not list(out.rglob("recipe.yaml"))

    refused(path, "--methods", "sft,rtf", says=["unknown method 'rtf'", "did you mean rft?"])
    refused(path, "--methods", "", says=["--methods", "nothing is named"])
    refused(path, "--controls", ",", says=["--controls", "nothing is named"])
    refused(path, "--controls", "same", says=["there is no control 'same'", "same-tokens"])
    says = ["no recipe here has the control 'own'", "controls here: all-experts, same-tokens"]
    refused(path, "--controls", "all-experts,own", says=says)
    refused(path, "--seed", "-1", says=["there is no seed -1"])
    refused(path, path, says=["two recipes have one name, sampled"])
    refused(path, path, "--methods", "sft", says=["--methods takes one recipe"])
    undevised = ["--set", "tasks.dev_per_kind=0"]
    refused(path, *undevised, "--methods", "sft,eto,ipr", says=["eto: ", "ipr: ", "dev tasks"])
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    refused(path, says=["holds files and no comparison: notes.txt"])


def test_directories_with_other_runs_are_refused(tmp_path: Path, model: Path, command) -> None:
    out = tmp_path / "out"
    path = write(tmp_path / "r.yaml", model, {"name": "sft", "sft": TWO_EPOCHS})
    command.succeeds("compare", path, "--seeds", 1, "--out", out)
    before = made(out)
    changed = ["--set", "method.sft.epochs=3"]
    says = ["another recipe called sampled", "method.sft.epochs: 2 -> 3"]
    command.fails("compare", path, *changed, "--seeds", 2, "--out", out, says=says)
    command.fails("compare", path, "--out", out / "sampled" / "seed-0", says=["is that of a run"])
    assert made(out) == before


def test_practice_stands_beside_its_own_successes(tmp_path: Path, model: Path, command) -> None:
    out = tmp_path / "out"
    game = {"name": "corridor", "options": {"rooms": 1}, "workers": 1}
    method: dict[str, Any] = {"name": "practice", "sft": TWO_EPOCHS | {"epochs": 12}, "rft": TWO_EPOCHS}
    method |= {"explore": {"samples": 4, "temperature": 1.0}, "dpo": {"batch_size": 2}}
    tasks = {"train_per_kind": 16, "experts_per_kind": 8, "dev_per_kind": 4, "test_per_kind": 4}
    path = write(tmp_path / "r.yaml", model, method, tasks=tasks, environment=game)
    command.succeeds("compare", path, "--seeds", 1, "--controls", "all-experts,same-tokens", "--out", out)
    assert set(read_json(out / "comparison.json")) == {
        "sampled",
        "sampled: all experts cloned",
        "sampled: cloned for as many tokens",
    }
    command.succeeds("compare", path, "--seeds", 1, "--out", out)
    run = out / "sampled" / "seed-0"
    control = out / "sampled" / "own-successes-cloned-for-as-many-tokens-seed-0"
    ours, theirs = training_tokens(run), training_tokens(control)
    assert list(ours) == ["sft", "rft-1", "dpo-1"] and list(theirs) == ["sft", "rft-1"]
    assert theirs["rft-1"] > ours["rft-1"], "more epochs"
    assert abs(sum(theirs.values()) - sum(ours.values())) <= ours["rft-1"] / 2, "within an epoch"
    taken = read_manifest(control)["taken_from"]["stages"]
    assert taken == ["expert", "sft", "dev-sft", "explore-1"], "the same exploring"
    row = read_json(out / "comparison.json")["sampled"]
    assert set(row["differences"]) == {
        "all experts cloned",
        "cloned for as many tokens",
        "own successes cloned for as many tokens",
    }
    text = (out / "comparison.md").read_text()
    assert "sampled: all experts cloned: the recipe's own clone, not trained again" in text
    cloned = out / "sampled" / "all-experts-seed-0"
    assert weights(cloned, "sft") == weights(run, "sft")
