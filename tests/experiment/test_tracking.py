"""Trackers: which points rows become, that a resumed run continues its own, and what a failing one costs."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest
from tiny import trajectory

from eto.data.store import TrajectoryStore
from eto.data.stored import spread_episodes
from eto.errors import MissingRequirement
from eto.experiment import trackers
from eto.experiment.recipe import Recipe, parse_recipe
from eto.experiment.run import Run
from eto.experiment.tracked_rows import Points
from eto.experiment.tracking import grown, tracked
from eto.types import Phase


class Said:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def update(self, stage: str, done: int, total: int, **figures: object) -> None:
        """Nothing is kept."""

    def say(self, text: str) -> None:
        self.lines.append(text)


def recipe(directory: Path, tracking: str) -> Recipe:
    return parse_recipe(
        f"name: mine\nrun_directory: {directory}\nenvironment: {{name: bandit}}\ntracking: {tracking}\n"
    )


def test_a_training_step_keeps_its_step_and_evaluations_are_counted() -> None:
    rows = [
        {"stage": "sft", "loss": 0.5, "tokens_per_second": 12, "step": 1, "steps": 9, "epoch": 1},
        {"stage": "dev", "agent": "sft", "step": 0, "reward": 0.25, "low": 0.1, "high": 0.4, "verb": "go"},
        {"stage": "dpo-1", "loss": None, "margin": 1.5, "step": 3, "epoch": 1},
        {"stage": "dev", "agent": "dpo-1/epoch-1", "step": 0, "reward": 0.5, "success": None},
    ]
    numbered = Points()
    found = [numbered.of(row) for row in rows]
    assert [(point.axis, point.step) for point in found] == [("sft", 1), ("dev", 1), ("dpo-1", 3), ("dev", 2)]
    assert found[0].values == {"sft/loss": 0.5, "sft/tokens_per_second": 12, "sft/epoch": 1}
    assert found[1].values == {
        "dev/reward": 0.25,
        "dev/reward_low": 0.1,
        "dev/reward_high": 0.4,
        "dev/of/sft": 0.25,
    }
    assert found[2].values == {"dpo-1/margin": 1.5, "dpo-1/epoch": 1}
    assert found[3].values == {"dev/reward": 0.5, "dev/of/dpo-1.epoch-1": 0.5}
    assert [point.number for point in found] == [1, 2, 3, 4]
    assert [point.played and point.played.text for point in found] == [
        *(None, "evaluate/sft/dev", None, "evaluate/dpo-1/epoch-1/dev")
    ]


def test_names_that_a_tracker_would_refuse_are_mended() -> None:
    point = Points().of({"stage": "dev", "agent": "a*b", "step": 0, "reward": 1.0})
    assert "dev/of/a_b" in point.values


def test_a_growing_file_gives_whole_lines_and_each_once(tmp_path: Path) -> None:
    path, end = tmp_path / "rows", threading.Event()
    batches = grown(path, end)
    path.write_text('{"n": 1}\n{"n"')
    assert next(batches) == [{"n": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    end.set()
    assert list(batches) == [[{"n": 2}]]


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Of all event files in a directory, read as TensorBoard reads them: name -> steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(directory))
    read.Reload()
    return {
        name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]
    }


def test_tensorboard_shows_the_run_and_goes_on_after_a_new_start(tmp_path: Path) -> None:
    mine = recipe(tmp_path / "run", "[tensorboard]")
    for start in (0, 1):
        with Run.open(mine.directory, mine) as run, tracked(run, Said()):
            for step in range(1 + 3 * start, 4 + 3 * start):
                run.log("sft", loss=1 / step, step=step, steps=6, epoch=1 + start)
            run.log("dev", agent=f"sft/epoch-{1 + start}", step=0, reward=0.25 + start / 4)
    events = scalars(tmp_path / "run" / "tracking" / "tensorboard" / "mine")
    assert [step for step, _ in events["sft/loss"]] == [1, 2, 3, 4, 5, 6]
    assert math.isclose(events["sft/loss"][4][1], 1 / 5, rel_tol=1e-6)
    assert events["dev/reward"] == [(1, 0.25), (2, 0.5)]
    kept = json.loads((tmp_path / "run" / "tracking" / "tensorboard.json").read_text())
    assert kept["rows"] == 8


def test_another_run_of_the_same_name_is_another_run(tmp_path: Path) -> None:
    for place in ("one", "two", "one"):
        mine = recipe(tmp_path / place, f"{{trackers: [tensorboard], directory: {tmp_path / 'tracks'}}}")
        with Run.open(mine.directory, mine) as run, tracked(run, Said()):
            run.log("sft", loss=0.5, step=len(run.logged()) + 1)
    found = {path.name: scalars(path)["sft/loss"] for path in (tmp_path / "tracks" / "tensorboard").iterdir()}
    assert found == {"mine": [(1, 0.5), (2, 0.5)], "mine-2": [(1, 0.5)]}


def test_episodes_are_spread_over_tasks_and_the_same_for_each_agent(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.sqlite"
    assert spread_episodes(path, "evaluate/sft/dev", 3) == []
    with TrajectoryStore(path) as store:
        for name in ("sft", "eto-1"):
            for number in range(7):
                for sample in (1, 0):
                    played = trajectory(("take", ""), number=number, source=name, sample=sample)
                    store.add(Phase.evaluate(name, "dev"), played)
        for name in ("sft", "eto-1"):
            found = spread_episodes(path, f"evaluate/{name}/dev", 3)
            assert [each.task.id for each in found] == ["tiny/0", "tiny/2", "tiny/4"]
            assert {(each.source, each.sample) for each in found} == {(name, 0)}
        assert len(spread_episodes(path, "evaluate/sft/dev", 99)) == 7
        assert spread_episodes(path, "evaluate/sft/dev", 0) == []
        store._db.execute("UPDATE episodes SET record = '{' WHERE task_id = 'tiny/2'")
        assert [each.task.id for each in spread_episodes(path, "evaluate/sft/dev", 3)] == ["tiny/0", "tiny/4"]


def test_figures_are_sent_where_episodes_cannot_be_read(tmp_path: Path, monkeypatch) -> None:
    mine, said = recipe(tmp_path / "run", "[tensorboard]"), Said()
    monkeypatch.setattr(trackers.Tracker, "shows_episodes", True)
    with Run.open(mine.directory, mine) as run, tracked(run, said):
        (tmp_path / "run" / "trajectories.sqlite").write_text("no store")
        run.log("dev", agent="sft", step=0, reward=0.5)
    events = scalars(tmp_path / "run" / "tracking" / "tensorboard" / "mine")
    assert events["dev/reward"] == [(1, 0.5)]
    assert len(said.lines) == 1 and "shows no episodes of evaluate/sft/dev" in said.lines[0]


def test_only_the_thread_that_asks_for_it_is_hushed(capsys: pytest.CaptureFixture[str]) -> None:
    with trackers.hushed("trackio"):
        print("from a tracker")
        other = threading.Thread(target=print, args=("from another thread",))
        other.start()
        other.join()
    print("after")
    assert capsys.readouterr().out == "from another thread\nafter\n"


def test_what_was_logged_before_it_was_asked_for_is_sent_at_the_next_start(tmp_path: Path) -> None:
    plain, mine = (recipe(tmp_path / "run", trackers) for trackers in ("[]", "[tensorboard]"))
    with Run.open(plain.directory, plain) as run, tracked(run, Said()):
        run.log("sft", loss=0.5, step=1)
    assert not (tmp_path / "run" / "tracking").exists()
    with Run.open(mine.directory, mine) as run, tracked(run, Said()):
        run.log("sft", loss=0.25, step=2)
    events = scalars(tmp_path / "run" / "tracking" / "tensorboard" / "mine")
    assert events["sft/loss"] == [(1, 0.5), (2, 0.25)]


def test_a_tracker_that_is_not_installed_is_one_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    mine = recipe(tmp_path / "run", "[mlflow]")
    with pytest.raises(MissingRequirement, match="tracking: mlflow: the package mlflow is not installed"):
        trackers.check_installed(mine)


def test_one_that_does_not_begin_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "tensorboard").write_text("a file where its directory should be")
    mine = recipe(tmp_path / "run", f"{{trackers: [tensorboard], directory: {tmp_path / 'tracks'}}}")
    with (
        Run.open(mine.directory, mine) as run,
        pytest.raises(MissingRequirement, match="does not begin: NotADirectoryError"),
        tracked(run, Said()),
    ):
        pytest.fail("it began")


def test_one_that_fails_later_costs_a_line_and_the_next_start_sends_what_it_missed(
    tmp_path: Path, monkeypatch
) -> None:
    mine, said = recipe(tmp_path / "run", "[tensorboard]"), Said()
    whole = trackers.Tracker.send

    def fails(self: trackers.Tracker, *_: object) -> None:
        raise ConnectionError("the network is gone")

    monkeypatch.setattr(trackers.Tracker, "send", fails)
    with Run.open(mine.directory, mine) as run, tracked(run, said):
        for step in (1, 2, 3):
            run.log("sft", loss=0.5, step=step)
    assert len(said.lines) == 1 and "ConnectionError: the network is gone" in said.lines[0]
    monkeypatch.setattr(trackers.Tracker, "send", whole)
    with Run.open(mine.directory, mine) as run, tracked(run, said):
        run.log("sft", loss=0.5, step=4)
    events = scalars(tmp_path / "run" / "tracking" / "tensorboard" / "mine")
    assert [step for step, _ in events["sft/loss"]] == [1, 2, 3, 4] and len(said.lines) == 1
