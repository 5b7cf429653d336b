"""What is written of a run besides its episodes: all that can be read, and what could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.errors import EtoError
from eto.evaluation.results import natural
from eto.evaluation.table import UNKNOWN
from eto.experiment.recipe import RUN_FILE, Recipe, recipe_of_run
from eto.experiment.recipe_yaml import read_text, read_yaml
from eto.experiment.run_records import read_done, read_manifest
from eto.methods import declared_stages


@dataclass(frozen=True, slots=True)
class Facts:
    """What the recipe, the manifest and the finished stages of a run say."""

    recipe: Recipe | None
    """None where this version cannot read it."""
    method: str
    model: str
    environment: str
    seed: str
    agents: list[str]
    """In the order in which they are made; the first is the one that others are compared with."""
    shipped: str
    """The agent that the run recommends; "" while it does not."""
    reason: str
    stages: list[dict[str, Any]]
    """The finished ones."""
    taken_from: dict[str, Any] | None
    faults: list[str]
    """What could not be read, and why."""

    @property
    def seconds(self) -> float:
        return float(sum(stage["seconds"] for stage in self.stages))


def read_facts(directory: Path) -> Facts:
    """The facts of the run in `directory`. A file that cannot be read is among the faults."""
    faults: list[str] = []
    recipe, declared = None, []
    try:
        recipe = recipe_of_run(directory)
        declared = [stage.agent for stage in declared_stages(recipe.method) if stage.agent]
        said: Mapping[str, Any] = recipe.model_dump(mode="json")
    except EtoError as error:
        faults.append(f"the recipe cannot be read: {error}")
        said = _values(directory / RUN_FILE)
    stages = _stages(directory, faults)
    named = [stage["metrics"] for stage in stages if "shipped" in stage["metrics"]]
    noted = [str(stage["agent"]) for stage in stages if stage.get("agent")]
    return Facts(
        recipe,
        _text(said, "method", "name"),
        _text(said, "model", "path"),
        _text(said, "environment", "name"),
        _text(said, "seed"),
        list(dict.fromkeys([*declared, *noted])),
        str(named[-1]["shipped"]) if named else "",
        str(named[-1].get("reason", "")) if named else "",
        stages,
        _origin(directory, faults),
        faults,
    )


def _values(path: Path) -> Mapping[str, Any]:
    """What stands in a recipe that is none; empty where it is no mapping."""
    try:
        values, _ = read_yaml(read_text(path), str(path))
    except EtoError:
        return {}
    return values if isinstance(values, dict) else {}


def _text(values: Any, *keys: str) -> str:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return str(values) if isinstance(values, str | int | float) else UNKNOWN


def _stages(directory: Path, faults: list[str]) -> list[dict[str, Any]]:
    """What the finished stages noted, in the order in which they finished."""
    found = []
    for path in sorted((directory / "stages").rglob("DONE")):
        try:
            found.append(read_done(path))
        except EtoError as error:
            faults.append(f"what a stage noted cannot be read: {error}")
    return sorted(found, key=lambda stage: (stage["finished"], natural(stage["stage"])))


def _origin(directory: Path, faults: list[str]) -> dict[str, Any] | None:
    """From which run stages were taken."""
    if not (directory / "manifest.json").exists():
        faults.append(f"seeds and hardware are not known: there is no {directory / 'manifest.json'}")
        return None
    try:
        origin = read_manifest(directory).get("taken_from")
    except EtoError as error:
        faults.append(f"the manifest cannot be read: {error}")
        return None
    return origin if isinstance(origin, dict) and {"directory", "stages"} <= origin.keys() else None
