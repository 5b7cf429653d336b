"""Tables and figure of a comparison, from figures written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eto.evaluation.compared_figure import draw_comparison
from eto.evaluation.compared_text import compared_markdown
from eto.evaluation.outcomes import best_of_each
from eto.types import Message, StopReason, Task, Trajectory


def row(mean: float | None, **more: Any) -> dict[str, Any]:
    interval = {"mean": mean, "low": mean and mean - 0.1, "high": mean and mean + 0.1}
    costs = {"environment_steps": 1200, "generated_tokens": 3e3, "trained_tokens": 4e4, "seconds": 90.0}
    values = {"seeds": 2, "by_reward": False, "same_as": "", "costs": costs, "differences": {}}
    return values | {"figures": {"reward": interval, "success": interval}} | more


def difference(mean: float | None, low: float | None = None) -> dict[str, Any]:
    high = None if low is None else low + 0.2
    return {"mean": mean, "low": 0.0, "high": 0.25, "seeds_low": low, "seeds_high": high, "each": [0.1, None]}


def test_what_the_tables_say() -> None:
    differences = {"all": {"reward": difference(0.1, -0.05), "success": difference(None)}}
    table = {
        "best": row(0.9, by_reward=True),
        "rft": row(0.5, differences=differences),
        "rft: all": row(0.4, seeds=1),
        "eto: all": row(0.4, same_as="rft: all"),
    }
    text = compared_markdown(table, seeds=2, notes=["of mine"])
    lines = text.splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[1].startswith("| rft | 2 | 0.500 [0.400, 0.600] |") and rows[1].endswith("| 1.5 |")
    assert rows[3].startswith("| best † |"), "what looks at the reward stands below the agents"
    assert rows[-1] == "| rft | all | reward | +0.100 | +0.000 to +0.250 | -0.050 to +0.150 | +0.100 – |"
    assert "- eto: all: the same runs as rft: all" in lines and "- of mine" in lines
    assert "- not finished: of 2 seeds there are so far: rft: all 1" in lines
    assert not any(line.startswith("| eto: all") for line in lines)


def test_nothing_finished_yet_is_said(tmp_path: Path) -> None:
    assert "no seed" in compared_markdown({}, seeds=1, notes=["rft: no seed is finished yet"])
    assert draw_comparison({}, tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_many_labels(tmp_path: Path) -> None:
    table = {f"method {number}": row(number / 30) for number in range(24)}
    table |= {
        "method 1: $x_1$ cloned": row(None),
        "free": row(0.1, costs={**row(0)["costs"], "trained_tokens": 0}),
    }
    drawn = draw_comparison(table, tmp_path / "c.png").read_bytes()
    assert drawn.startswith(b"\x89PNG") and len(drawn) > 10_000


def test_the_best_of_each_task_by_reward() -> None:
    def played(task: str, sample: int, reward: float) -> Trajectory:
        of = Task(task, "toy", "kind", "test")
        stop = StopReason.OUT_OF_TURNS
        return Trajectory(of, (Message("user", "Go."),), (), reward, None, stop, "sft", sample=sample)

    found = best_of_each([played("a", 0, 0.2), played("b", 0, 0.5), played("a", 1, 0.7), played("b", 1, 0.5)])
    assert [(each.task.id, each.sample) for each in found] == [("a", 1), ("b", 0)]
