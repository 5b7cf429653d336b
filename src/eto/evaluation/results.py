"""Every figure of a run, computed from its directory alone, as one JSON object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import eto.evaluation.statistics as statistics
from eto.data.files import read_rows
from eto.data.stored import StoredEpisodes
from eto.errors import InputError
from eto.experiment.recipe import RUN_FILE, Recipe, recipe_of_run
from eto.experiment.run_records import read_done, read_manifest
from eto.methods import declared_stages
from eto.protocols import Stage
from eto.types import Phase, Trajectory

_COMPARED: Mapping[str, statistics.Value] = {
    "reward": statistics.reward,
    "final_reward": statistics.final_reward,
    "success": statistics.success,
}


def build_results(run_directory: str | Path) -> dict[str, Any]:
    """All figures of a run; stages that are not done yet are simply not in it.

    Keys: `recipe`, `model`, `environment`, `seeds`, `hardware`, `splits` (split -> `agents` (agent ->
    summary with `kinds` and `difference` to the baseline)), `baseline`, `explored` (iteration -> summary),
    `bounds` (name -> test reward with its interval; what looked at the reward, and is no agent),
    `pairs` (iteration -> metrics of the contrast stage), `guard` (stage -> the rule that fired),
    `behaviour` (split -> agent -> how it acted), `shipped`, `stages` (wall seconds), `seconds`,
    `taken_from` (the run that the named stages come from, or None). Nothing is written. Raises `InputError`
    where there is no run, or a part of it cannot be read.
    """
    directory = Path(run_directory)
    store_path = directory / "trajectories.sqlite"
    if not (directory / RUN_FILE).is_file():
        hint = "give the directory of a run: it holds recipe.yaml"
        raise InputError("there is no run here", where=str(directory), hint=hint)
    recipe = recipe_of_run(directory)
    there = (directory / "manifest.json").exists()  # not yet, where it was stopped as it began
    manifest = read_manifest(directory) if there else {}
    stages = read_stages(directory)
    declared = {stage.name: stage for stage in declared_stages(recipe.method)}
    phases: dict[Phase, list[Trajectory]] = {}
    if store_path.is_file():
        store = StoredEpisodes(store_path)
        played = [phase for phase in store.phases() if phase.purpose in ("evaluate", "explore")]
        phases = {phase: store.get(phase) + store.get(phase, failed=True) for phase in played}
        if store.faults:  # figures of a part of the tasks would be others
            raise store.faults[0]
    shown = ("platform", "processor", "cpu_features", "cpus", "memory_gb", "gpus", "versions")
    hardware = {key: manifest.get(key) for key in shown}
    return {
        "recipe": recipe.name,
        "model": recipe.model.path,
        "environment": recipe.environment.name,
        "seeds": manifest.get("seeds", {"seed": recipe.seed}),
        "split_hashes": manifest.get("splits", {}),
        "hardware": hardware,
        "baseline": baseline_of(recipe),
        "splits": _splits(phases, recipe),
        "explored": {
            phase.name: _summary(episodes, recipe)
            for phase, episodes in sorted(phases.items(), key=lambda item: natural(item[0].name))
            if phase.purpose == "explore"
        },
        "bounds": _bounds(stages),
        "pairs": {_iteration(s["stage"], declared): s["metrics"] for s in stages if "pairs" in s["metrics"]},
        "guard": {s["stage"]: s["metrics"]["guard"] for s in stages if s["metrics"].get("guard")},
        "behaviour": _behaviour(directory / "metrics.jsonl"),
        "shipped": _shipped(stages),
        "stages": [{"stage": stage["stage"], "seconds": stage["seconds"]} for stage in stages],
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "taken_from": manifest.get("taken_from"),
    }


def read_stages(run_directory: Path) -> list[dict[str, Any]]:
    """What the finished stages noted, in the order in which they finished."""
    paths = (run_directory / "stages").rglob("DONE")
    return sorted((read_done(path) for path in paths), key=lambda s: (s["finished"], natural(s["stage"])))


def baseline_of(recipe: Recipe) -> str:
    """The agent to which a run compares all others: the first that its method makes."""
    return next((stage.agent for stage in declared_stages(recipe.method) if stage.agent), "")


def agents_of(run_directory: Path) -> set[str]:
    """The agents of a run, those that its method makes and those that its stages have noted; no checkpoints
    on the way to them."""
    recipe = recipe_of_run(run_directory)
    noted = {stage.get("agent", "") for stage in read_stages(run_directory)}
    return {stage.agent for stage in declared_stages(recipe.method)} | noted


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `agent-2` before `agent-10`."""
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def compare(
    first: Sequence[Trajectory], second: Sequence[Trajectory], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Paired differences, first minus second, on the tasks that both played."""
    differences = {}
    for name, value in _COMPARED.items():
        a, b = statistics.by_task(first, value), statistics.by_task(second, value)
        differences[name] = statistics.paired_difference(a, b, resamples=resamples, seed=seed).to_dict()
    return differences


def _splits(phases: Mapping[Phase, list[Trajectory]], recipe: Recipe) -> dict[str, Any]:
    """Split -> agents -> figures; the test split first."""
    played: dict[str, dict[str, list[Trajectory]]] = {}
    for phase, episodes in phases.items():
        if phase.purpose == "evaluate":
            played.setdefault(phase.split, {})[phase.name] = episodes
    return {
        split: {"agents": _agents(played[split], recipe)}
        for split in sorted(played, key=lambda split: (split != "test", split))
    }


def _agents(played: Mapping[str, list[Trajectory]], recipe: Recipe) -> dict[str, Any]:
    agents: dict[str, Any] = {}
    resamples, seed = recipe.evaluation.bootstrap_resamples, recipe.seed
    baseline = baseline_of(recipe)
    for agent in sorted(played, key=lambda name: (name != baseline, natural(name))):
        agents[agent] = _summary(played[agent], recipe)
        if agent != baseline and baseline in played:
            agents[agent]["difference"] = compare(
                played[agent], played[baseline], resamples=resamples, seed=seed
            )
    return agents


def _summary(episodes: Sequence[Trajectory], recipe: Recipe) -> dict[str, Any]:
    resamples = recipe.evaluation.bootstrap_resamples
    return statistics.summarise(episodes, resamples=resamples, seed=recipe.seed, unfinished=True).to_dict()


def _bounds(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What stages noted as a bound: its name -> reward on the test tasks."""
    noted = [stage["metrics"] for stage in stages if "bound" in stage["metrics"]]
    return {
        each["bound"]: {"mean": each["reward"], "low": each["low"], "high": each["high"], "n": each["tasks"]}
        for each in noted
    }


def _behaviour(metrics: Path) -> dict[str, dict[str, Any]]:
    """Split -> agent or checkpoint -> figures of how it acted, as they were logged when it was played."""
    acted: dict[str, dict[str, Any]] = {}
    names = ("repeated", "malformed", "verb", "verb_share", "action_entropy")
    for row in read_rows(metrics, "stage"):
        if row.keys() >= {"agent", *names}:
            figures = {name: row[name] for name in names}
            acted.setdefault(row["stage"], {})[row["agent"]] = figures
    return acted


def _iteration(stage: str, declared: Mapping[str, Stage]) -> str:
    """The iteration of a stage, by what its method declares; its name where that says none."""
    iteration = declared[stage].iteration if stage in declared else None
    return stage if iteration is None else str(iteration)


def _shipped(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The agent that the run recommends, from the last stage that named one."""
    named = [stage["metrics"] for stage in stages if "shipped" in stage["metrics"]]
    return {"agent": named[-1]["shipped"], "reason": named[-1].get("reason", "")} if named else None
