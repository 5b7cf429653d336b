"""`eto run --plan`: what a run will take, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from eto.cli.compose import read_recipe
from eto.cli.tables import print_parts
from eto.cli.terminal import say, terminal
from eto.errors import InputError
from eto.evaluation.parts import Rows
from eto.evaluation.table import Cell
from eto.experiment.planning.acting import SERVER
from eto.experiment.planning.hardware import named_hardware
from eto.experiment.planning.memory import Memory
from eto.experiment.planning.plan import Plan, plan_run
from eto.experiment.planning.work import total

PARTS = {
    "context": "process",
    "weights": "weights",
    "copy": "copies in compute type",
    "gradients": "gradients",
    "optimiser": "optimiser",
    "activations": "activations",
    "reference": "reference",
    "cache": "cache",
}
"""Parts of a device's memory, as they are shown."""


def print_plan(
    path: Path,
    overrides: Sequence[str],
    hardware: str,
    as_json: bool,
    *,
    quiet: bool = False,
    source: Path | None = None,
) -> int:
    """Print the plan of a run of the recipe at `path`; returns the exit code: 2 where something stands in its
    way. Raises `InputError` for what has no effect on a plan: quiet, and a run in `source` to begin with."""
    for option, given in (("--quiet", quiet), ("--from", source)):
        if given:
            raise InputError("it has no effect on --plan", where=option, hint="leave one of the two out")
    recipe = read_recipe(path, overrides, "run")
    plan = plan_run(recipe, named_hardware(hardware))
    if as_json:
        say(json.dumps(plan.record(), indent=2))
    else:
        _print(plan)
    return 2 if plan.problems else 0


def _print(plan: Plan) -> None:
    console = terminal()
    for line in _heading(plan):
        console.print(line, soft_wrap=True)
    print_parts([_memory_table(plan.memory)], console)
    console.print(
        f"peak {_gb(plan.peak)} of {_gb(plan.hardware.memory)} on one device"
        f"{', servers included' if SERVER in plan.memory else ''}; simulators are not counted",
        soft_wrap=True,
    )
    if plan.fits_on and plan.fits_on > 1:
        console.print(f"training fits when it is sharded over {plan.fits_on} devices", soft_wrap=True)
    console.print(f"disk {_gb(plan.disk)}", soft_wrap=True)
    print_parts([_work_table(plan)], console)
    console.print(
        "hours are estimates from assumed shares of the hardware's speed, without simulators, starts and "
        "saving; pairs are counted at their most (docs/scale.md)",
        soft_wrap=True,
    )
    for problem in plan.problems:
        console.print(f"problem: {problem}", soft_wrap=True)
    found = len(plan.problems)
    console.print(f"{found or 'no'} problem{'' if found == 1 else 's'} found", soft_wrap=True)


def _heading(plan: Plan) -> Iterator[str]:
    shape, lengths, counts = plan.shape, plan.lengths, plan.counts
    trained = (
        "" if shape.trained == shape.parameters else f", {shape.trained / 1e6:.1f} million of them trained"
    )
    yield f"{plan.recipe} on {plan.hardware.text}"
    yield f"model: {shape.parameters / 1e9:.3f} billion parameters{trained}; context {plan.context}"
    yield (
        f"episodes: prompt {lengths.prompt:.0f} tokens, {lengths.turns:.1f} turns of an expert, at most "
        f"{lengths.most_turns:.0f}, {lengths.action:.0f} tokens of action and {lengths.observation:.0f} of "
        f"observation each ({lengths.source})"
    )
    yield (
        f"tasks: {counts.train} train, {counts.experts} with expert, {counts.cloned} cloned, "
        f"{counts.dev} dev, {counts.test} test"
    )
    kept = "recomputed" if plan.recomputes else "kept"
    yield f"training: {plan.batch_tokens} tokens pass at a time, activations {kept}"


def _memory_table(memory: dict[str, Memory]) -> Rows:
    rows: list[list[Cell]] = []
    for name, shown in PARTS.items():
        values = [asdict(part)[name] for part in memory.values()]
        if any(values):
            rows.append([(shown,), *((f"{value / 1e9:.2f}" if value else "",) for value in values)])
    rows.append([("total",), *((f"{part.total / 1e9:.2f}",) for part in memory.values())])
    return Rows(["GB", *memory], rows)


def _work_table(plan: Plan) -> Rows:
    rows: list[list[Cell]] = []
    for each in [*plan.work, total(plan.work)]:
        counts = (each.episodes, each.trained, each.read, each.generated)
        rows.append([(each.stage,), *((f"{n:,}" if n else "",) for n in counts), (f"{each.hours:.2f}",)])
    return Rows(["stage", "episodes", "trained tokens", "read", "generated", "hours"], rows)


def _gb(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
