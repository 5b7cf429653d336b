"""The report, from a run directory made of real files."""

import io
import json

import pytest
from rich.console import Console

from eto.cli.tables import print_parts
from eto.errors import InputError, RecipeError
from eto.evaluation import build_results, markdown, write_report
from eto.evaluation.report_text import report_parts
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn

RECIPE = parse_recipe("name: small\nenvironment: {name: toy}\nevaluation: {bootstrap_resamples: 300}\n")


def episode(number, score, source, split="test", *, turns=5, failed=False):
    kind = ("find", "grow")[number % 2]
    return Trajectory(
        Task(f"toy/{kind}/{number}", "toy", kind, split),
        (Message("user", "go"),),
        (Turn("look", "a room"),) * turns,
        max(score, 0.25),
        score == 1,
        StopReason.ENVIRONMENT_FAILED if failed else StopReason.TERMINATED,
        source,
        score=score,
    )


@pytest.fixture
def directory(tmp_path):
    """A finished run: the cloned agent solves 4 of 8 test tasks, eto-1 solves 6 and dies once."""
    with Run.open(tmp_path / "run", RECIPE) as run:
        for number in range(8):
            run.store.add(
                Phase.parse("evaluate/sft/test"), episode(number, 1.0 if number < 4 else 0.25, "sft")
            )
            score = 1.0 if number < 6 else -1.0 if number == 6 else 0.25
            run.store.add(Phase.parse("evaluate/eto-1/test"), episode(number, score, "eto-1", turns=4))
            run.store.add(Phase.parse("evaluate/sft/dev"), episode(number, 0.5, "sft", "dev"))
            run.store.add(Phase.parse("explore/1"), episode(number, 0.5, "sft", "train"))
        run.store.add(Phase.parse("evaluate/eto-1/test"), episode(8, 0.0, "eto-1", failed=True))
        for step in range(1, 6):
            run.log("sft", step=step, epoch=0, loss=1 / step, tokens_per_second=100.0)
            run.log("dpo-1", step=step, loss=0.7, margin=0.1 * step, chosen_drift=-0.1, rejected_drift=-1.0)
        run.log("dev", agent="sft", step=5, reward=0.5, success=0.0, low=0.4, high=0.6)
        run.log("dev", agent="dpo-1/epoch-1", step=5, reward=float("nan"), success=None)
        stages = {
            "contrast-1": {"pairs": {"find": 3, "grow": 2}},
            "dpo-1": {"guard": "margin 11.0 above 10"},
            "ship": {"shipped": "eto-1", "reason": "better on dev"},
        }
        for name, metrics in stages.items():
            with run.stage(name) as stage:
                stage.note(**metrics)
    return tmp_path / "run"


def test_results_hold_every_figure(directory):
    results = build_results(directory)
    assert list(results["splits"]) == ["test", "dev"]
    agents = results["splits"]["test"]["agents"]
    assert list(agents) == ["sft", "eto-1"]
    assert "difference" not in agents["sft"]
    eto = agents["eto-1"]
    assert (eto["tasks"], eto["failed"], eto["disasters"]) == (8, 1, 1)
    assert eto["success"]["mean"] == 0.75
    assert eto["reward"]["mean"] == pytest.approx((6 + 0.25 + 0.25) / 8)
    assert eto["final_reward"]["mean"] == pytest.approx((6 + 0.0 + 0.25) / 8)
    assert eto["steps_to_success"] == {"mean": 4.0, "low": 4.0, "high": 4.0, "n": 6}
    difference = eto["difference"]
    assert difference["success"]["mean"] == 0.25 and difference["success"]["n"] == 8
    assert difference["reward"]["mean"] == pytest.approx(2 * 0.75 / 8)
    assert eto["kinds"]["find"]["tasks"] == 4
    assert results["explored"]["1"]["reward"]["mean"] == 0.5
    assert results["pairs"] == {"1": {"pairs": {"find": 3, "grow": 2}}}
    assert results["guard"] == {"dpo-1": "margin 11.0 above 10"}
    assert results["shipped"] == {"agent": "eto-1", "reason": "better on dev"}
    assert [stage["stage"] for stage in results["stages"]] == ["contrast-1", "dpo-1", "ship"]
    assert results["seeds"] == {"seed": 0} and results["recipe"] == "small"


def test_report_files(directory):
    paths = write_report(directory)
    assert json.loads(paths.results.read_text()) == build_results(directory)
    assert paths.curve.read_bytes().startswith(b"\x89PNG")
    assert paths.curve.stat().st_size > 10_000
    assert "curve.png" in paths.markdown.read_text()
    before = paths.results.read_bytes(), paths.markdown.read_bytes(), paths.curve_svg.read_bytes()
    write_report(directory)
    after = paths.results.read_bytes(), paths.markdown.read_bytes(), paths.curve_svg.read_bytes()
    assert after == before


def test_each_stage_has_panels_of_its_own_with_units_and_gaps(directory):
    with Run.open(directory, RECIPE) as run:
        run.log("dpo-1", step=6, loss=0.7, margin=float("nan"))
    drawn = write_report(directory).curve_svg.read_text()
    for said in (
        *(
            "sft: loss",
            "dpo-1: loss",
            "dpo-1: margin, chosen over rejected",
            "dpo-1: drift from the reference",
        ),
        *("dev tasks", "test tasks", "optimiser step", "nats", "mean reward, success rate (0 to 1)"),
        "gaps: no number at 1 of 6 steps",
    ):
        assert f"<!-- {said} -->" in drawn, "matplotlib writes each text beside its glyphs"
    assert "sft: margin" not in drawn


def test_tables_show_what_results_hold(directory):
    results = build_results(directory)
    text = markdown(results)
    row = next(line for line in text.splitlines() if line.startswith("| eto-1 | 8 | 0.8"))
    success = results["splits"]["test"]["agents"]["eto-1"]["success"]
    assert f"0.750 [{success['low']:.2f}, {success['high']:.2f}]" in row
    assert "+0.250 [" in text and "iteration 1: 5 pairs (find 3, grow 2)" in text
    assert "dpo-1 was stopped: margin 11.0 above 10" in text and "shipped: eto-1: better on dev" in text
    assert "failed and set aside: 1 of eto-1's test episodes" in text
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    print_parts(report_parts(results), console)
    shown = console.export_text()
    assert all(part in shown for part in ("0.750", "+0.250", "disasters", "find", "shipped: eto-1"))
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "…" not in shown


def test_a_run_that_has_only_begun(tmp_path):
    Run.open(tmp_path / "run", RECIPE).close()
    paths = write_report(tmp_path / "run")
    results = json.loads(paths.results.read_text())
    assert results["splits"] == {} and results["shipped"] is None and results["seconds"] == 0
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    print_parts(report_parts(results), console)
    assert "no agent was evaluated on the test split yet" in console.export_text()


def test_agents_sort_by_number(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        for agent in ("eto-10", "eto-2", "sft", "base"):
            run.store.add(Phase.parse(f"evaluate/{agent}/test"), episode(1, 1.0, agent))
    agents = build_results(tmp_path / "run")["splits"]["test"]["agents"]
    assert list(agents) == ["sft", "base", "eto-2", "eto-10"]
    assert agents["eto-2"]["success"]["low"] < 1  # one task: Wilson, not a point


@pytest.mark.parametrize("content", ["", "- a list\n"])
def test_a_damaged_recipe_of_a_run_is_to_be_restored(directory, content):
    (directory / "recipe.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match="restore it from a copy"):
        build_results(directory)
    with pytest.raises(RecipeError, match="restore it from a copy"):
        Run.open(directory, RECIPE)


def test_no_run_is_said(tmp_path):
    with pytest.raises(InputError, match="no run here"):
        build_results(tmp_path)
