"""`eto compare`: the controls stand beside a method, what is equal is shared, the same command resumes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import yaml
from coin_game import RECIPE

from eto.data.files import read_json
from eto.evaluation.costs import costs_of, training_tokens
from eto.experiment.recipe import load_recipe


def test_a_comparison(tmp_path: Path, model: Path, command) -> None:
    values = deepcopy(dict(RECIPE))
    values["name"] = "sampled"
    method = {"name": "rft", "sft": RECIPE["method"]["sft"] | {"epochs": 2}, "least_reward": 0.5}
    values["method"] = method | {"explore": {"samples": 2, "temperature": 1.0}}
    values["model"]["path"] = str(model)
    values.pop("run_directory", None)
    values["tasks"] = {"train_per_kind": 12, "explore_unseen": 0.5, "dev_per_kind": 4, "test_per_kind": 6}
    path, out = tmp_path / "recipe.yaml", tmp_path / "compared"
    path.write_text(yaml.safe_dump(values))
    command.succeeds("compare", path, "--seeds", "1", "--out", out)

    run = out / "sampled" / "seed-0"
    everything, longer = (out / "sampled" / f"{name}-seed-0" for name in ("all-experts", "same-tokens"))
    assert load_recipe(everything / "recipe.yaml").tasks.explore_unseen == 0
    tokens = training_tokens(run)
    assert list(tokens) == ["sft", "rft"]
    [cloned] = training_tokens(longer).values()
    assert abs(cloned - sum(tokens.values())) <= tokens["sft"] / 2, "within half an epoch"
    [whole] = training_tokens(everything).values()
    assert whole > 1.5 * tokens["sft"], "twice the experts"
    manifest = read_json(everything / "manifest.json")
    assert manifest["taken_from"], "the experts are shared"
    table = read_json(out / "comparison.json")
    differences = table["sampled"]["differences"]
    assert set(differences) == {"all experts cloned", "cloned for as many tokens"}
    assert (
        differences["all experts cloned"]["reward"]["low"]
        <= differences["all experts cloned"]["reward"]["high"]
    )
    assert costs_of(run).environment_steps > 0 and costs_of(longer).environment_steps == 0
    before = (run / "results.json").exists(), (out / "comparison.md").read_text()
    command.succeeds("compare", path, "--seeds", "1", "--out", out)
    assert (out / "comparison.md").read_text() == before[1]
