"""Each command by itself, killed without warning and given again, ends as an undisturbed one."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from coin_game import RECIPE, environment_of_child

import eto.cli.replaying
from eto.data.formats import read_trajectories, write_pairs, write_trajectories
from eto.environments import load_suite
from eto.rollout.experts import collect_experts
from eto.types import Pair

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "countdown" / "countdown.py"
SLOW = """
import time

RANGES = {{"train": range(2, {end}), "dev": range({end}, 2 * {end}), "test": ()}}


class SlowCountdown(Countdown):
    def max_turns(self, task):
        return 3

    def expert_actions(self, task, environment):
        return [str(task.payload["start"] - 1 - n) for n in range(task.payload["start"])][:3]

    def spec(self):
        return f"{{__name__}}:SlowCountdown", {{}}

    def environment(self):
        return SlowEnvironment()


class SlowEnvironment(CountdownEnvironment):
    def step(self, action):
        time.sleep(0.04)
        answer = super().step(action)
        # Three right numbers are enough, so that episodes are short however high the number.
        if self.current <= max(self.start - 3, 0):
            return Step(answer.observation, 1.0, terminated=True, success=True)
        return answer
"""
TASKS = 22


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A directory with a recipe, experts, and pairs of them with what is worse."""
    folder = tmp_path_factory.mktemp("commands")
    game = folder / "slow_countdown.py"
    game.write_text(EXAMPLE.read_text(encoding="utf-8") + SLOW.format(end=TASKS + 2), encoding="utf-8")
    steady = {"batch_size": 1, "epochs": 12}
    recipe = {
        "name": "commands",
        "model": {"path": str(model), "dtype": "float32"},
        "environment": {"name": f"{game}:SlowCountdown", "workers": 1},
        "rollout": {"slots": 2, "max_action_tokens": 4},
        "evaluation": {"bootstrap_resamples": 100},
        "checkpoint_seconds": 1,
        "method": {
            "name": "eto",
            "sft": {**RECIPE["method"]["sft"], **steady},
            "dpo": {**RECIPE["method"]["dpo"], **steady},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    suite = load_suite(f"{game}:SlowCountdown")
    good = collect_experts(suite, suite.tasks("train"))
    assert len(good) == TASKS
    write_trajectories(folder / "experts.jsonl", good)
    write_pairs(folder / "pairs.jsonl", [Pair(each.task, each, worse(each), 1) for each in good])
    write_trajectories(
        folder / "all.jsonl", [each for t in good for each in (t, replace(worse(t), reward=1.0))]
    )
    return folder


def worse(trajectory):
    """The same episode, broken off by a wrong number."""
    first, second = trajectory.turns[:2]
    turns = (first, replace(second, action="99", reward=0.0))
    return replace(trajectory, turns=turns, reward=0.0, success=False, source="policy")


def begun(folder: Path, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "eto", *map(str, words), "--recipe", "recipe.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment_of_child(),
    )


def kept(part: Path) -> int:
    """Episodes that a command has kept so far."""
    try:
        with closing(sqlite3.connect(f"file:{part / 'episodes.sqlite'}?mode=ro", uri=True)) as db:
            return db.execute("SELECT COUNT(*) FROM episodes").fetchone()[0]
    except sqlite3.OperationalError:  # it is being created
        return 0


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it does not get there"
        time.sleep(0.005)
    process.kill()
    process.communicate()


PLAYING = {
    "expert": ("expert", "--out", "OUT", "--results", "OUT.json"),
    "explore": ("explore", "--name", "mine", "--out", "OUT", "--results", "OUT.json"),
    "evaluate": ("evaluate", "--split", "train", "--out", "OUT", "--results", "OUT.json"),
    "figures alone": ("evaluate", "--split", "train", "--results", "OUT"),
    "replay": ("replay", "all.jsonl", "--out", "OUT", "--failed", "OUT-failed", "--results", "OUT.json"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", PLAYING.values(), ids=list(PLAYING))
def test_episodes_are_not_played_again(words: tuple[str, ...], place: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(place)
    name = f"{words[0]}-{len(words)}"
    calm, killed = (
        [each.replace("OUT", out) for each in words] for out in (f"calm-{name}", f"killed-{name}")
    )
    command.succeeds(*calm, "--recipe", "recipe.yaml")
    part = place / f".killed-{name}.part"
    kill_when(begun(place, *killed), lambda: kept(part) >= 4)
    had = kept(part)
    assert not (place / f"killed-{name}").exists() and had < TASKS
    assert f"resuming: {had} of" in command.succeeds(*killed, "--recipe", "recipe.yaml")
    assert not part.exists()
    written = sorted(path.name for path in place.glob(f"killed-{name}*"))
    assert len(written) == sum("OUT" in word for word in words)
    for file in written:
        assert content(place / file) == content(place / file.replace("killed", "calm")), file
    if words[0] in ("explore", "replay"):
        assert {t.source for t in read_trajectories(place / f"killed-{name}")} <= {"mine", "expert"}


def content(path: Path) -> list[object]:
    """A file of JSON or JSON lines, without log-probs, which rounding makes depend on who plays beside."""
    text = path.read_text(encoding="utf-8")
    values = (
        [json.loads(text)] if text.startswith("{\n") else [json.loads(line) for line in text.splitlines()]
    )
    for value in values:
        for turn in value.get("turns", ()) if isinstance(value.get("turns"), list) else ():
            turn.pop("log_probs", None)
    return values


@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", [("sft", "--expert", "experts.jsonl"), ("dpo", "--pairs", "pairs.jsonl")])
def test_training_goes_on_from_its_checkpoint(
    words: tuple[str, ...], place: Path, command, monkeypatch
) -> None:
    monkeypatch.chdir(place)
    name = words[0]
    command.succeeds(*words, "--recipe", "recipe.yaml", "--out", f"calm-{name}")
    part = place / f".killed-{name}.part"
    given = (*words, "--out", f"killed-{name}", "--name", "mine")
    kill_when(begun(place, *given), lambda: any(part.glob("state*/step.json")))
    assert not (place / f"killed-{name}" / "config.json").exists()
    assert "steps are kept in" in command.succeeds(*given, "--recipe", "recipe.yaml")
    one, other = place / f"calm-{name}", place / f"killed-{name}"
    weights = "model.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()
    rows = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 12 * TASKS + 1))
    noted = json.loads((other / "training.json").read_text())
    assert (noted["name"], noted["command"]) == ("mine", name) and noted["contents"]


def test_a_command_stopped_as_it_writes_resumes(place: Path, command, monkeypatch) -> None:
    """Some outputs stand already: the same command replaces them, another one does not."""
    monkeypatch.chdir(place)
    words = (
        "replay",
        "experts.jsonl",
        "--recipe",
        "recipe.yaml",
        "--out",
        "half.jsonl",
        "--results",
        "half.json",
    )
    write = eto.cli.replaying.write_results

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(eto.cli.replaying, "write_results", stopped)
    done = command(*words)
    assert done.code == 130 and "the same command resumes" in done.error
    assert Path("half.jsonl").exists() and not Path("half.json").exists()
    monkeypatch.setattr(eto.cli.replaying, "write_results", write)
    command.fails("replay", "all.jsonl", *words[2:], says=["something here already"])
    assert f"resuming: {TASKS} of {TASKS}" in command.succeeds(*words)
    assert json.loads(Path("half.json").read_text())["verified"] == TASKS
    command.fails(*words, says=["something here already"])


def test_a_model_brings_the_name_it_was_given(place: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(place)
    short = ("--recipe", "recipe.yaml")
    command.succeeds(
        "sft",
        *short,
        "--expert",
        "experts.jsonl",
        "--out",
        "clone",
        "--name",
        "clone-1",
        "method.sft.epochs=1",
    )
    command.succeeds(
        "explore", *short, "--model", "clone", "--split", "dev", "tasks.dev_per_kind=2", "--out", "a.jsonl"
    )
    command.succeeds(
        *("explore", *short, "--model", "clone", "--split", "dev", "tasks.dev_per_kind=2"),
        *("--out", "b.jsonl", "--name", "other"),
    )
    sources = [{t.source for t in read_trajectories(name)} for name in ("a.jsonl", "b.jsonl")]
    assert sources == [{"clone-1"}, {"other"}]
