"""Best-of-N on a small game: the best of each test task counts, apart from the agents."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from coin_game import RECIPE

from eto.data.store import TrajectoryStore
from eto.evaluation import build_results
from eto.experiment.run_records import read_done
from eto.methods.best_of_n import best_rewards
from eto.types import Phase


def test_the_best_counts_apart(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    method = {"name": "best_of_n", "sft": RECIPE["method"]["sft"] | {"epochs": 5}}
    method["explore"] = {"samples": 3, "temperature": 1.0}
    values |= {"run_directory": str(tmp_path / "run"), "method": method}
    values["model"]["path"] = str(model)
    values["tasks"] = {"train_per_kind": 48, "dev_per_kind": 4, "test_per_kind": 6}
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("run", path)
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        played = store.get(Phase.continued("best-of-n"))
    best = best_rewards(played)
    assert len(played) == 3 * len(best) and len({t.reward for t in played}) > 1
    noted = read_done(run / "stages" / "best-of-n" / "DONE")["metrics"]
    assert noted["reward"] == pytest.approx(sum(best.values()) / len(best))
    assert noted["reward"] > sum(t.reward for t in played) / len(played)
    assert list(build_results(run)["splits"]["test"]["agents"]) == ["sft"]
    check_report(run, command, noted["reward"])


def check_report(run: Path, command, reward: float) -> None:
    """The figure has a table of its own, and is not that of the agent that ships."""
    results = build_results(run)
    assert results["shipped"]["agent"] == "sft"
    assert results["bounds"]["best of 3 by sft"]["mean"] == pytest.approx(reward)
    assert results["bounds"]["best of 3 by sft"]["n"] == 6
    mark = "no agent: chosen by the test's reward"
    agents, _, bounds = (run / "report.md").read_text().partition(f"| {mark} |")
    assert "## Dev split" in bounds and bounds.index("best of 3 by sft") < bounds.index("## Dev split")
    assert "best of 3" not in agents and f"{reward:.3f} [" in bounds
    shown = command.succeeds("report", run)
    table, _, apart = shown.partition("no agent")
    assert "best of 3 by sft" in apart and "best of 3" not in table
