"""Every command alone, on files, with a small model."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from coin_game import write_recipe
from rich.console import Console

import eto
from eto.cli.progress import Progress
from eto.data.formats import read_pairs, read_trajectories
from eto.errors import InputError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "pairs"
COMMANDS = ("run", "expert", "sft", "explore", "pairs", "dpo", "evaluate", "report", "show-mask", "doctor")
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
SMALL = {
    "tasks": {"train_per_kind": 16, "dev_per_kind": 8, "test_per_kind": 8},
    "sft": {"epochs": 8, "learning_rate": 2e-3, "batch_size": 4, "schedule": "constant"},
}


@pytest.mark.timeout(120)
def test_the_loop_by_hand(tmp_path: Path, model: Path, command) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", **SMALL)
    expert, explored, pairs = (tmp_path / f"{name}.jsonl" for name in ("expert", "explored", "pairs"))
    command.succeeds("expert", "--recipe", recipe, "--out", expert)
    experts = read_trajectories(expert)
    assert len({t.task.id for t in experts}) == 16 and all(t.success and t.reward == 1 for t in experts)

    cloned = tmp_path / "cloned"
    command.succeeds("sft", "--recipe", recipe, "--expert", expert, "--out", cloned)
    command.succeeds(
        *("explore", "--recipe", recipe, "--model", cloned, "--out", explored),
        *("method.explore.samples=2", "method.explore.temperature=0.8"),
    )
    episodes = read_trajectories(explored)
    assert {(t.task.id, t.sample) for t in episodes} == {(t.task.id, n) for t in experts for n in (0, 1)}
    assert any(t.reward == 1 for t in episodes) and any(t.reward == 0 for t in episodes)

    printed = command.succeeds(
        "pairs", "--recipe", recipe, "--expert", expert, "--explored", explored, "--out", pairs
    )
    found = read_pairs(pairs)
    losers = {t.task.id for t in episodes if t.reward == 0}
    assert {pair.task.id for pair in found} <= losers and found
    assert f"{len(found)} pairs written" in printed and "losses" in printed

    better = tmp_path / "better"
    command.succeeds("dpo", "--recipe", recipe, "--model", cloned, "--pairs", pairs, "--out", better)
    assert (better / "model.safetensors").read_bytes() != (cloned / "model.safetensors").read_bytes()
    played = tmp_path / "played.jsonl.gz"
    printed = command.succeeds(
        "evaluate", "--recipe", recipe, "--model", better, "--split", "test", "--out", played
    )
    assert "test tasks" in printed and len(read_trajectories(played)) == 8
    check_masks(command, expert, pairs, cloned)


def check_masks(command, expert: Path, pairs: Path, model: Path) -> None:
    """`show-mask` marks the actions and their ends and nothing else."""
    first, second = read_trajectories(expert)[:2]
    printed = command.succeeds("show-mask", expert, "--model", model, "--limit", 2)
    for trajectory in (first, second):
        for number, action in enumerate(trajectory.actions):
            assert f"turn {number}: '{action}<|im_end|>'" in printed
    assert printed.count("tokens carry loss") == 2
    assert "tokens carry loss" in command.succeeds("show-mask", pairs, "--model", model)


@pytest.mark.timeout(120)
def test_a_report_is_made_from_the_directory_alone(tmp_path: Path, model: Path, command, painted) -> None:
    recipe, run = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run", **SMALL), tmp_path / "run"
    printed = command.succeeds("run", recipe, "method.iterations=0", "method.sft.epochs=2")
    assert "sft" in printed and "eto-1" not in printed
    results = json.loads((run / "results.json").read_text())
    assert set(results["splits"]["test"]["agents"]) == {"sft"}

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for name in ("results.json", "report.md", "curve.png"):
        (copy / name).unlink()
    table = command.succeeds("report", copy)
    assert json.loads((copy / "results.json").read_text()) == results
    assert f"{results['splits']['test']['agents']['sft']['reward']['mean']:.3f}" in table

    # A finished run is shown again, not run again; a changed recipe is refused, field by field.
    marks = {mark: mark.stat().st_mtime_ns for mark in run.rglob("DONE")}
    again = command.succeeds(
        "run", recipe, "method.iterations=0", "method.sft.epochs=2", "environment.workers=2"
    )
    assert "loss" not in again and "environment.workers: 1 -> 2" in again
    assert marks == {mark: mark.stat().st_mtime_ns for mark in run.rglob("DONE")}
    command.fails(
        *("run", recipe, "method.iterations=0", "method.sft.epochs=3", "tasks.test_per_kind=7"),
        says=[
            "another recipe",
            "method.sft.epochs: 2 -> 3",
            "tasks.test_per_kind: 8 -> 7",
            str(run),
            "run_directory=",
        ],
    )


@pytest.mark.timeout(180)
def test_a_run_from_anothers_stages_comes_to_what_it_comes_to_alone(
    tmp_path: Path, model: Path, command
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "old", **SMALL, dpo={"epochs": 1})
    old, alone, new = (tmp_path / name for name in ("old", "alone", "new"))
    few = "method.sft.epochs=2"
    command.succeeds("run", recipe, few, "method.dpo.beta=0.3")
    command.succeeds("run", recipe, few, f"run_directory={alone}")
    printed = command.succeeds("run", recipe, few, f"run_directory={new}", "--from", old)
    taken = ["expert", "sft", "dev-sft", "explore-1", "contrast-1"]
    assert f"taken from {old}: {', '.join(taken)}" in " ".join(printed.split())
    found, wanted = (json.loads((run / "results.json").read_text()) for run in (new, alone))
    assert [stage["stage"] for stage in found["stages"]] == [*taken, "dpo-1", "test"]
    assert found["taken_from"]["stages"] == taken and wanted["taken_from"] is None
    for figures in ("splits", "explored", "pairs", "shipped"):
        assert found[figures] == wanted[figures]


def said(*texts: str) -> list[dict[str, str]]:
    """ShareGPT messages in turn, the human first."""
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def test_own_successes_and_failures_become_a_better_model(tmp_path: Path, model: Path, command) -> None:
    successes = [
        {"id": f"shop/{n}", "conversations": said("Find the coin.", "OK", f"Room {n}.", "take coin", "Done.")}
        for n in range(3)
    ]
    failures = [
        {
            "id": f"shop/{n}",
            "reward": 0.0,
            "conversations": said(
                "Find the coin.", "OK", f"Room {n}.", "move north", "A wall.", "move north"
            ),
        }
        for n in range(3)
    ]
    (tmp_path / "success.json").write_text(json.dumps(successes))
    (tmp_path / "failure.json").write_text(json.dumps(failures))
    files = ("--expert", tmp_path / "success.json", "--explored", tmp_path / "failure.json")
    for form, name in (("own", "own.jsonl"), ("sharegpt", "pairs.json"), ("trl", "trl.jsonl")):
        command.succeeds("pairs", *files, "--format", form, "--out", tmp_path / name)
        pairs = read_pairs(tmp_path / name)
        assert [pair.chosen.actions for pair in pairs] == [("take coin",)] * 3
        assert [pair.rejected.actions for pair in pairs] == [("move north", "move north")] * 3

    options = (
        "method.dpo.epochs=2",
        "method.dpo.learning_rate=1e-3",
        "method.dpo.schedule=constant",
        "model.dtype=float32",
    )
    printed = command.succeeds(
        *("dpo", "--pairs", tmp_path / "pairs.json", "--model", model, "--out", tmp_path / "out"),
        *options,
    )
    assert "margin" in printed and (tmp_path / "out" / "tokenizer.json").is_file()

    # A failure without its reward must not pass for an expert's success.
    (tmp_path / "failure.json").write_text(
        json.dumps([{key: value for key, value in item.items() if key != "reward"} for item in failures])
    )
    command.fails(
        "pairs", *files, "--out", tmp_path / "none.jsonl", says=["failure.json, item [0]", "reward"]
    )


@pytest.mark.skipif(not CASES.is_dir(), reason="the reference's pair cases are not beside the project")
@pytest.mark.parametrize("environment", ["webshop", "sciworld", "alfworld"])
def test_the_references_pairs(environment: str, tmp_path: Path, command) -> None:
    folder, out = CASES / environment, tmp_path / "pairs.json"
    files = ("--expert", folder / "expert.json", "--explored", folder / "explored.json", "--out", out)
    command.succeeds("pairs", "--rules", "reference", *files)
    assert json.loads(out.read_text()) == json.loads((folder / "pairs.json").read_text())


def test_doctor_says_what_is_there(command) -> None:
    done = command("doctor")
    assert done.code in (0, 1)
    for part in ("Java", "torch", "memory", "embedded model"):
        assert part in done.out


def test_version_and_help(command) -> None:
    assert command.succeeds("--version").strip() == f"eto {eto.__version__}"
    shown = command.succeeds("--help")
    assert all(name in shown for name in COMMANDS)


def test_ctrl_c_says_that_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, command) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eto.cli.run.run_recipe", interrupted)
    done = command("run", "recipe.yaml")
    assert done.code == 130 and "the same command resumes" in done.error


def test_an_error_leaves_the_terminal_its_cursor() -> None:
    screen = io.StringIO()
    progress = Progress(Console(file=screen, force_terminal=True))
    with pytest.raises(InputError), progress:
        progress.update("sft", 1, 3)
        assert HIDDEN in screen.getvalue() and SHOWN not in screen.getvalue()
        raise InputError("wrong")
    assert screen.getvalue().rstrip().endswith(SHOWN)
