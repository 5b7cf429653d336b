"""Several runs of one recipe with different seeds, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import eto.evaluation.statistics as statistics
from eto.data.store import TrajectoryStore
from eto.data.stored import StoredEpisodes
from eto.data.texts import markdown_code, markdown_text
from eto.errors import InputError
from eto.evaluation.crossed import seed_bounds
from eto.evaluation.parts import Part, Rows, parts_markdown
from eto.evaluation.results import agents_of, build_results
from eto.evaluation.table import (
    UNKNOWN,
    Cell,
    agent_rows,
    difference_rows,
    duration,
    interval_cell,
    kind_rows,
)
from eto.experiment.recipe import recipe_of_run
from eto.experiment.run_records import read_done
from eto.machine import hardware_line
from eto.methods import declared_stages
from eto.types import Phase, Trajectory

SHIPPED = "shipped"
"""In each run the agent that dev chose; the cloned one where no round beat it."""
_COMPARED = (
    ("reward", statistics.reward),
    ("final_reward", statistics.final_reward),
    ("success", statistics.success),
)


def pool_runs(directories: Sequence[str | Path], split: str = "test") -> dict[str, Any]:
    """Figures over all runs: `runs` (each run's own results) and `agents`, with differences to the baseline.

    Means are over tasks, each task's figure being its mean over the runs that played it;
    differences are paired within each run and resampled by task. `seeds_low` and `seeds_high` beside an
    interval are bounds over tasks and seeds (`crossed`), None for a single run. Raises `InputError` for a
    directory that is not a finished run, and for one that is named twice.
    """
    _check_different(directories)
    runs = [build_results(directory) for directory in directories]
    played = [_episodes(Path(d), r, split) for d, r in zip(directories, runs, strict=True)]
    names = [name for name in played[0] if all(name in agents for agents in played)]
    agents: dict[str, Any] = {}
    baseline = runs[0]["baseline"]
    for name in names:
        episodes = [episode for each in played for episode in each[name]]
        agents[name] = statistics.summarise(episodes, unfinished=True).to_dict()
        for figure in ("reward", "success"):
            values = [statistics.by_task(each[name], dict(_COMPARED)[figure]) for each in played]
            agents[name][figure] |= seed_bounds([(each, dict.fromkeys(each, 0.0)) for each in values])
        if name != baseline and baseline in names:
            agents[name]["difference"] = _differences(
                [each[name] for each in played], [each[baseline] for each in played]
            )
    return {"split": split, "runs": runs, "agents": agents}


def compare_runs(
    directories: Sequence[str | Path], against: Sequence[str | Path], split: str = "test"
) -> dict[str, dict[str, Any]]:
    """Each agent of `directories` minus the shipped agent of `against`, run by run, pooled.

    agent -> figure -> difference. Runs belong together by order, for example by seed.
    Raises `InputError` where their numbers differ or a run is not finished.
    """
    if len(directories) != len(against):
        problem = f"{len(directories)} runs cannot be paired with {len(against)}"
        raise InputError(problem, where="--against", hint="name one run for each, in the same order")
    ours, theirs = (
        [_episodes(Path(d), build_results(d), split) for d in runs] for runs in (directories, against)
    )
    names = [name for name in ours[0] if all(name in agents for agents in ours)]
    others = [each[SHIPPED] for each in theirs]
    return {name: _differences([each[name] for each in ours], others) for name in names}


def _differences(
    ours: Sequence[Sequence[Trajectory]], theirs: Sequence[Sequence[Trajectory]]
) -> dict[str, dict[str, Any]]:
    """Figure -> ours minus theirs, run by run paired, with bounds over tasks and seeds."""
    found = {}
    for figure, value in _COMPARED:
        pairs = [
            (statistics.by_task(one, value), statistics.by_task(other, value))
            for one, other in zip(ours, theirs, strict=True)
        ]
        found[figure] = statistics.pooled_difference(pairs).to_dict() | seed_bounds(pairs)
    return found


def comparison_markdown(differences: dict[str, dict[str, Any]], against: Sequence[str | Path]) -> str:
    """`comparison_parts` as Markdown."""
    return parts_markdown(comparison_parts(differences, against))


def comparison_parts(differences: dict[str, dict[str, Any]], against: Sequence[str | Path]) -> list[Part]:
    """The differences of `compare_runs` as one table."""
    _, *header = difference_rows({}, "")[0]
    _, rows = difference_rows({name: {"difference": entry} for name, entry in differences.items()}, "")
    names = [Path(directory).name for directory in against]
    corner = f"agent minus that of {', '.join(map(markdown_code, names))}"
    return [Rows([f"agent minus that of {', '.join(names)}", *header], rows, corner)]


def pooled_markdown(pooled: dict[str, Any]) -> str:
    """`pooled_parts` as Markdown."""
    return parts_markdown(pooled_parts(pooled))


def pooled_parts(pooled: dict[str, Any]) -> list[Part]:
    """The pooled tables, one row a run below them, and each run's wall time by stage."""
    run = pooled["runs"][0]
    hardware = " or ".join(dict.fromkeys(hardware_line(each["hardware"]) for each in pooled["runs"]))
    facts = (
        f"{len(pooled['runs'])} runs of {markdown_code(recipe_name(pooled))} with "
        f"{markdown_code(run['model'])} on {markdown_code(run['environment'])}; "
        f"{markdown_text(hardware)}. "
        f"{pooled['split'].capitalize()} split; mean and 95% bootstrap interval over tasks."
    )
    return [facts, *(Rows(*table) for table in pooled_tables(pooled).values())]


def _check_different(directories: Sequence[str | Path]) -> None:
    seen: set[Path] = set()
    for directory in directories:
        place = Path(directory).resolve()
        if place in seen:
            raise InputError("the run is named twice", where=str(directory), hint="name each run once")
        seen.add(place)


def recipe_name(pooled: Mapping[str, Any]) -> str:
    """What the recipe of all runs is called, without the seed that the first run's name ends with."""
    return str(pooled["runs"][0]["recipe"].split("-seed")[0])


def pooled_tables(pooled: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """The tables of `pool_runs` by name, each with its header: `agents`, `differences`, `seeds` (intervals
    over tasks and seeds), `types`, `runs` (a row each), `times`."""
    agents = pooled["agents"]
    return {
        "agents": agent_rows(agents),
        "differences": difference_rows(agents, pooled["runs"][0]["baseline"]),
        "seeds": _seed_rows(agents),
        "types": kind_rows(agents),
        "runs": _run_rows(pooled),
        "times": _time_rows(pooled["runs"]),
    }


def _seed_rows(agents: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per agent: intervals that speak of further seeds too."""
    header = ["over tasks and seeds", "reward", "success", "difference in reward", "in success"]
    rows: list[list[Cell]] = []
    for name, figures in agents.items():
        difference = figures.get("difference", {})
        own = [interval_cell(_of_seeds(figures[each]), 3, 3) for each in ("reward", "success")]
        paired = [
            interval_cell(_of_seeds(difference[each]), 3, 3, sign="+") if each in difference else (UNKNOWN,)
            for each in ("reward", "success")
        ]
        rows.append([(name,), *own, *paired])
    return header, rows


def _of_seeds(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {"mean": figure["mean"], "low": figure["seeds_low"], "high": figure["seeds_high"]}


def _run_rows(pooled: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per run: what each agent came to in it."""
    names = list(pooled["agents"])
    rows: list[list[Cell]] = []
    for run in pooled["runs"]:
        figures = run["splits"][pooled["split"]]["agents"]
        pairs = " + ".join(str(each["pairs"]) for each in run["pairs"].values())
        shipped = run["shipped"]["agent"]
        cells = [figures[shipped if name == SHIPPED else name] for name in names]
        both = [" / ".join(_figure(cell[name]["mean"]) for name in ("reward", "success")) for cell in cells]
        facts = run["recipe"], str(run["seeds"].get("seed", UNKNOWN)), pairs or "0", shipped
        rows.append([(each,) for each in (*facts, *both)])
    return ["run", "seed", "pairs", "shipped", *(f"{name} reward / success" for name in names)], rows


def _figure(mean: float | None) -> str:
    return UNKNOWN if mean is None else f"{mean:.3f}"


def _time_rows(runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per stage: its wall time in each run."""
    stages = list(dict.fromkeys(stage["stage"] for run in runs for stage in run["stages"]))
    seconds = [{s["stage"]: s["seconds"] for s in run["stages"]} for run in runs]
    rows: list[list[Cell]] = [
        [(stage,), *((duration(run[stage]) if stage in run else UNKNOWN,) for run in seconds)]
        for stage in stages
    ]
    rows.append([("all",), *((duration(run["seconds"]),) for run in runs)])
    return ["wall time", *(run["recipe"] for run in runs)], rows


def _episodes(directory: Path, results: dict[str, Any], split: str) -> dict[str, list[Trajectory]]:
    """Agent -> its episodes on `split`, the shipped agent under `shipped` too."""
    if results["shipped"] is None or split not in results["splits"]:
        raise InputError(
            "the run is not finished",
            where=str(directory),
            hint="start it again: it resumes where it stopped",
        )
    made = agents_of(directory)
    agents = [name for name in results["splits"][split]["agents"] if name in made]
    store = StoredEpisodes(directory / "trajectories.sqlite")
    episodes = {name: store.get(Phase.evaluate(name, split)) for name in agents}
    return episodes | {SHIPPED: episodes[results["shipped"]["agent"]]}


def shipped_episodes(directory: Path, split: str = "test") -> tuple[str, list[Trajectory]]:
    """The agent that a run ships, and its episodes on `split`. Raises `InputError` for an unfinished run."""
    done = directory / "stages" / "test" / "DONE"
    if not done.exists():
        hint = "start it again: it resumes where it stopped"
        raise InputError("the run is not finished", where=str(directory), hint=hint)
    agent = str(read_done(done)["metrics"]["shipped"])
    with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
        return agent, store.get(Phase.evaluate(agent, split))


def last_episodes(directory: Path, split: str) -> tuple[str, list[Trajectory]]:
    """The last agent that a run's method made and played on `split`, whichever was chosen, and its episodes.
    Raises `InputError` where none was played."""
    recipe = recipe_of_run(directory)
    with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
        played = set(store.phases())
        for stage in reversed(declared_stages(recipe.method)):
            if stage.agent and (phase := Phase.evaluate(stage.agent, split)) in played:
                return stage.agent, store.get(phase)
    hint = "start it again: it resumes where it stopped"
    raise InputError(f"no agent has played the {split} tasks", where=str(directory), hint=hint)
