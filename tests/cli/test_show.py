"""`eto show`: what changed, and episodes and pairs as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eto.cli import app
from eto.cli.run import what_changed
from eto.data.formats import write_pairs
from eto.data.store import TrajectoryStore
from eto.errors import EtoError
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.types import Message, Pair, Phase, StopReason, Task, Trajectory, Turn

WON = (Turn("go north", "A hall.", 0.25), Turn("take coin", "Taken [bold]!", 1.0))
FAILED = (Turn("go north", "A hall.", 0.25), Turn("go \x1b[31msouth", "A shed.", 0.25))


def episode(number: int, won: bool, source: str, split: str = "test") -> Trajectory:
    task = Task(f"toy/find/{number}", "toy", "find", split)
    prompt = (Message("system", "Play."), Message("user", f"Find coin {number}."))
    stop = StopReason.TERMINATED if won else StopReason.OUT_OF_TURNS
    return Trajectory(task, prompt, WON if won else FAILED, 1.0 if won else 0.25, won, stop, source)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """sft solves tasks 0 and 1, eto-1 tasks 1, 2 and 3, of five."""
    recipe = parse_recipe("name: small\nenvironment: {name: toy}\n")
    with Run.open(tmp_path / "run", recipe) as run:
        for agent, solved in (("sft", (0, 1)), ("eto-1", (1, 2, 3))):
            for number in range(5):
                run.store.add(Phase.evaluate(agent, "test"), episode(number, number in solved, agent))
            run.store.add(Phase.evaluate(agent, "dev"), episode(9, agent == "eto-1", agent, "dev"))
        run.store.add(Phase.evaluate("dpo-1/epoch-1", "dev"), episode(9, True, "eto-1", "dev"))
        with run.stage("contrast-1") as stage:
            pair = Pair(
                episode(0, True, "expert").task, episode(0, True, "expert"), episode(0, False, "sft"), 1
            )
            write_pairs(stage.directory / "pairs.jsonl", [pair])
        with run.stage("test") as stage:
            stage.note(shipped="eto-1", reason="dev")
    return tmp_path / "run"


def shown(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["show", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_what_changed(run: Path) -> None:
    text = shown(run)
    assert "| test, beside sft | gained | lost | kept | missed |" in text
    assert "| eto-1 | 2 | 1 | 1 | 1 |" in text and "dpo-1" not in text
    assert f"eto show {run} --gained --agent eto-1" in text
    assert "| eto-1 | 1 | 0 | 0 | 0 |" in shown(run, "--split", "dev")
    assert "| sft | 1 | 2 | 1 | 1 |" in shown(run, "--agent", "sft", "--against", "eto-1")


def test_a_run_ends_with_what_changed(run: Path) -> None:
    assert what_changed(run, "sft", "eto-1") == (
        "test tasks solved by eto-1 and not by sft: 2; the other way round: 1; by both: 1; by none: 1"
    )


def test_the_tasks_gained_side_after_side(run: Path) -> None:
    text = shown(run, "--gained", "--limit", 5)
    assert text.startswith("2 test tasks gained by eto-1 beside sft, 2 of them shown")
    heads = [line for line in text.splitlines() if line.startswith("===")]
    assert [head.split(":")[0] for head in heads] == [
        f"=== toy/find/{number} by {agent}" for number in (2, 3) for agent in ("sft", "eto-1")
    ]
    assert "reward 1, solved, 2 turns, terminated" in heads[1] and "not solved" in heads[0]
    assert "[user] Find coin 2." in text and text.count("--- from here on the two differ") == 4
    assert "  1 > go north   [0.25]\n    A hall.\n" in text and "Taken [bold]!" in text
    assert "\x1b" not in text and "\\x1b[31msouth" in text, "text is shown as it is, controls as escapes"
    assert shown(run, "--gained").count("===") == 2, "one task by default"
    assert "toy/find/0" in shown(run, "--lost")


def test_episodes(run: Path) -> None:
    both = shown(run, "--task", "toy/find/2")
    assert "by sft" in both and "by eto-1" in both
    lost = shown(run, "--agent", "eto-1", "--outcome", "lost", "--limit", 9)
    assert lost.startswith("2 episodes on test, 2 of them shown") and "toy/find/4" in lost
    assert "by sft" not in lost


def test_an_unknown_success_is_neither_won_nor_lost(run: Path, tmp_path: Path) -> None:
    """As in `eto export` and in the filters of `eto view`, whatever the reward."""
    with TrajectoryStore(run / "trajectories.sqlite") as store:
        for number in (1, 2):
            unknown = replace(episode(number, number == 1, "eto-2"), success=None)
            store.add(Phase.evaluate("eto-2", "test"), unknown)
            assert unknown.outcome == ""
    (run / "recipe.yaml").write_text("no recipe\n", encoding="utf-8")  # all agents that played count
    assert shown(run, "--agent", "eto-2", "--limit", 9).startswith("2 episodes")
    for outcome in ("won", "lost"):
        with pytest.raises(EtoError, match="leave --outcome out: the environment does not say"):
            shown(run, "--agent", "eto-2", "--outcome", outcome)


def test_pairs(run: Path) -> None:
    text = shown(run, "--pairs", 1)
    assert "toy/find/0, trajectory: chosen 1, rejected 0.25" in text
    assert text.count("go north") == 1, "what both sides share stands once"
    chosen, rejected = text.split("--- chosen (expert, reward 1)")[1].split("--- rejected (sft, reward 0.25)")
    assert "  2 > take coin" in chosen and "  2 > go " in rejected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gained", "--lost"], "give one of the two"),
        (["--outcome", "draw"], "won or lost"),
        (["--agent", "eto-7"], "agents that have: eto-1, sft"),
        (["--split", "train"], "no agent has played the train tasks"),
        (["--task", "toy/find/77"], "5 tasks were played, such as toy/find/0"),
        (["--pairs", 3], "there are contrast-1"),
        (["--gained", "--agent", "sft"], "name another agent: eto-1"),
        (["--pairs", 1, "--lost"], "no effect on --pairs"),
        (["--pairs", 1, "--outcome", "won"], "--outcome: it has no effect"),
        (["--pairs", 1, "--agent", "sft"], "--agent: it has no effect"),
    ],
)
def test_what_is_not_there_is_said(run: Path, arguments: list[object], says: str) -> None:
    with pytest.raises(EtoError) as error:
        shown(run, *arguments)
    assert says in str(error.value)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(EtoError, match="there is no run here"):
        shown(tmp_path)
