"""A run with two agents, explored episodes, pairs and a training curve, as the viewer finds it on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from viewing import viewer

from eto.data.formats import write_pairs
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.types import Message, Pair, Phase, StopReason, Task, Trajectory, Turn

HOSTILE = '<script>document.title = "broken"</script> "quoted" \x1b[31m'


def episode(number: int, won: bool, source: str, split: str = "test", sample: int = 0) -> Trajectory:
    """One of a small game; those that are won part after the first turn."""
    task = Task(f"toy/find/{number}", "toy", "find" if number % 2 else "bring", split)
    first = Turn("go north", "A hall.", 0.25, action_ids=(7, 2), log_probs=(-0.5, -0.25))
    last = Turn("take coin", "Taken.", 1.0) if won else Turn(f"say {HOSTILE}", "Nothing.", 0.25, loss=False)
    stop = StopReason.TERMINATED if won else StopReason.OUT_OF_TURNS
    prompt = (Message("system", "Play."), Message("user", f"Find coin {number}."))
    reward = 1.0 if won else 0.25
    return Trajectory(task, prompt, (first, last), reward, won, stop, source, sample, tokenizer="toy")


def make_run(directory: Path, tasks: int = 6) -> Path:
    """sft solves tasks 0 and 1, eto-1 tasks 1, 2 and 3, of six or more."""
    recipe = parse_recipe(f"name: small\nrun_directory: {directory}\nenvironment: {{name: toy}}\n")
    with Run.open(directory, recipe) as run:
        for number in range(tasks):
            run.store.add(Phase.explore(1), episode(number, number == 0, "sft", "train"))
            for agent, solved in (("sft", (0, 1)), ("eto-1", (1, 2, 3))):
                run.store.add(Phase.evaluate(agent, "test"), episode(number, number in solved, agent))
        for step in range(1, 6):
            run.log(stage="sft", step=step, loss=4.0 / step)
        for name in ("sft", "contrast-1", "test"):
            with run.stage(name) as stage:
                if name == "contrast-1":
                    sides = episode(0, True, "expert", "train"), episode(0, False, "sft", "train")
                    write_pairs(stage.directory / "pairs.jsonl", [Pair(sides[0].task, *sides, 1)])
                elif name == "test":
                    stage.note(shipped="eto-1", reason="better on dev")
    return directory


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "small")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return shutil.copytree(made, tmp_path / "runs" / "small")


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    """Of a viewer over the directory that holds the run."""
    with viewer(run.parent) as place:
        yield place
