"""A finished run on disk, made without any training: two agents, pairs, a training curve, long names."""

from __future__ import annotations

from pathlib import Path

from eto.data.formats import write_pairs
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.types import Message, Pair, Phase, StopReason, Task, Trajectory, Turn

NAME = "kitchen-and-garden-with-long-names"
KINDS = ("measure-melting-point-unknown-substance", "find-animal")


def episode(number: int, won: bool, source: str, split: str = "test") -> Trajectory:
    """One of two turns."""
    task = Task(f"toy/{KINDS[number % 2]}/{number}", "toy", KINDS[number % 2], split)
    last = Turn("take coin", "Taken.", 1.0) if won else Turn("wait", "Nothing.", 0.25)
    stop = StopReason.TERMINATED if won else StopReason.OUT_OF_TURNS
    prompt = (Message("system", "Play."), Message("user", f"Find coin {number}."))
    turns = (Turn("go north", "A hall.", 0.25), last)
    return Trajectory(task, prompt, turns, 1.0 if won else 0.25, won, stop, source)


def make_run(directory: Path, seed: int = 0) -> Path:
    """sft solves tasks 0 and 1, eto-1, which is shipped, tasks 1, 2 and 3, of twelve."""
    text = f"name: {NAME}-seed{seed}\nseed: {seed}\nrun_directory: {directory}\nenvironment: {{name: toy}}\n"
    with Run.open(directory, parse_recipe(text)) as run:
        for number in range(12):
            run.store.add(Phase.explore(1), episode(number, number == 0, "sft", "train"))
            for agent, solved in (("sft", (0, 1)), ("eto-1", (1, 2, 3))):
                for split in ("dev", "test"):
                    won = number in solved
                    run.store.add(Phase.evaluate(agent, split), episode(number, won, agent, split))
        for step in range(1, 6):
            run.log(stage="sft", step=step, loss=4.0 / step)
        for name in ("sft", "contrast-1", "dpo-1", "test"):
            with run.stage(name) as stage:
                if name == "contrast-1":
                    sides = episode(0, True, "expert", "train"), episode(0, False, "sft", "train")
                    write_pairs(stage.directory / "pairs.jsonl", [Pair(sides[0].task, *sides, 1)])
                    stage.note(pairs=1)
                elif name == "test":
                    stage.note(shipped="eto-1", reason="better on dev")
    return directory
