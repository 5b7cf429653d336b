"""Several runs of one recipe as one table."""

import pytest

from eto.errors import InputError
from eto.evaluation.pooled import compare_runs, comparison_markdown, pool_runs, pooled_markdown
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn


def episode(number: int, score: float, source: str) -> Trajectory:
    return Trajectory(
        Task(f"toy/find/{number}", "toy", "find", "test"),
        (Message("user", "go"),),
        (Turn("look", "a room"),),
        score,
        score == 1,
        StopReason.TERMINATED,
        source,
        score=score,
    )


def make_run(folder, seed: int, sft: list[float], eto: list[float], shipped: str):
    recipe = parse_recipe(f"name: small-seed{seed}\nseed: {seed}\nenvironment: {{name: toy}}\n")
    with Run.open(folder, recipe) as run:
        for agent, scores in (("sft", sft), ("eto-1", eto)):
            for number, score in enumerate(scores):
                run.store.add(Phase.parse(f"evaluate/{agent}/test"), episode(number, score, agent))
        for name, metrics in (("contrast-1", {"pairs": 3}), ("test", {"shipped": shipped, "reason": "dev"})):
            with run.stage(name) as stage:
                stage.note(**metrics)
    return folder


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path / "a", 0, [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.5, 0.0], "eto-1"),
        make_run(tmp_path / "b", 1, [1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], "sft"),
    ]


def test_means_and_paired_differences(runs):
    agents = pool_runs(runs)["agents"]
    assert list(agents) == ["sft", "eto-1", "shipped"]
    assert agents["sft"]["reward"]["mean"] == pytest.approx(3 / 8)
    assert agents["eto-1"]["reward"]["mean"] == pytest.approx(3.5 / 8)
    assert agents["eto-1"]["difference"]["reward"]["mean"] == pytest.approx((1.5 - 1.0) / 8)
    assert agents["eto-1"]["difference"]["reward"]["n"] == 4, "tasks are the unit, not runs"


def test_shipped_is_what_each_run_chose(runs):
    difference = pool_runs(runs)["agents"]["shipped"]["difference"]["reward"]
    assert difference["mean"] == pytest.approx(1.5 / 8), "the second run kept its cloned agent"


def test_the_page_names_every_run(runs):
    text = pooled_markdown(pool_runs(runs))
    assert "2 runs of `small`" in text
    assert "| small-seed0 | 0 | 3 | eto-1 | 0.250 / 0.250 | 0.625 / 0.500 | 0.625 / 0.500 |" in text
    assert "| small-seed1 | 1 | 3 | sft | 0.500 / 0.500 | 0.250 / 0.250 | 0.500 / 0.500 |" in text


def test_a_run_under_way_is_refused(runs, tmp_path):
    with Run.open(tmp_path / "c", parse_recipe("name: c\nenvironment: {name: toy}\n")) as run:
        run.store.add(Phase.parse("evaluate/sft/test"), episode(0, 1.0, "sft"))
    with pytest.raises(InputError, match="not finished"):
        pool_runs([*runs, tmp_path / "c"])


def test_runs_against_others(runs, tmp_path):
    other = [
        make_run(tmp_path / "x", 0, [0.0, 0.0, 0.0, 0.0], [0.0] * 4, "sft"),
        make_run(tmp_path / "y", 1, [0.0, 1.0, 0.0, 0.0], [0.0] * 4, "sft"),
    ]
    found = compare_runs(runs, other)
    assert found["sft"]["reward"]["mean"] == pytest.approx((3 - 1) / 8)
    assert found["shipped"]["reward"]["mean"] == pytest.approx((2.5 + 2 - 1) / 8)
    text = comparison_markdown(found, other)
    assert "agent minus that of `x`, `y`" in text and "+0.250" in text
    with pytest.raises(InputError, match="cannot be paired"):
        compare_runs(runs, other[:1])
