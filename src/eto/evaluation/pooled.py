"""Several runs of one recipe with different seeds, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import eto.evaluation.statistics as statistics
from eto.data.store import TrajectoryStore
from eto.data.texts import markdown_code, markdown_text
from eto.errors import InputError
from eto.evaluation.parts import Part, Rows, parts_markdown
from eto.evaluation.results import agents_of, build_results
from eto.evaluation.table import agent_rows, difference_rows, duration, kind_rows
from eto.experiment.recipe import load_recipe
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
    differences are paired within each run and resampled by task. Raises `InputError` for
    a directory that is not a finished run.
    """
    runs = [build_results(directory) for directory in directories]
    played = [_episodes(Path(d), r, split) for d, r in zip(directories, runs, strict=True)]
    names = [name for name in played[0] if all(name in agents for agents in played)]
    agents: dict[str, Any] = {}
    baseline = runs[0]["baseline"]
    for name in names:
        episodes = [episode for each in played for episode in each[name]]
        agents[name] = statistics.summarise(episodes, unfinished=True).to_dict()
        if name != baseline and baseline in names:
            agents[name]["difference"] = {
                figure: statistics.pooled_difference(
                    [
                        (statistics.by_task(each[name], value), statistics.by_task(each[baseline], value))
                        for each in played
                    ]
                ).to_dict()
                for figure, value in _COMPARED
            }
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
    return {
        name: {
            figure: statistics.pooled_difference(
                [
                    (statistics.by_task(one[name], value), statistics.by_task(other[SHIPPED], value))
                    for one, other in zip(ours, theirs, strict=True)
                ]
            ).to_dict()
            for figure, value in _COMPARED
        }
        for name in names
    }


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
    agents, runs = pooled["agents"], pooled["runs"]
    hardware = " or ".join(dict.fromkeys(hardware_line(run["hardware"]) for run in runs))
    parts: list[Part] = [
        f"{len(runs)} runs of {markdown_code(runs[0]['recipe'].split('-seed')[0])} with "
        f"{markdown_code(runs[0]['model'])} on {markdown_code(runs[0]['environment'])}; "
        f"{markdown_text(hardware)}. "
        f"{pooled['split'].capitalize()} split; mean and 95% bootstrap interval over tasks.",
        Rows(*agent_rows(agents)),
        Rows(*difference_rows(agents, runs[0]["baseline"])),
        Rows(*kind_rows(agents)),
    ]
    header = ["run", "seed", "pairs", "shipped", *(f"{name} reward / success" for name in agents)]
    rows = []
    for run in runs:
        figures = run["splits"][pooled["split"]]["agents"]
        pairs = " + ".join(str(each["pairs"]) for each in run["pairs"].values())
        shipped = run["shipped"]["agent"]
        cells = [figures[shipped if name == SHIPPED else name] for name in agents]
        rows.append(
            [(run["recipe"],), (str(run["seeds"]["seed"]),), (pairs or "0",), (shipped,)]
            + [(f"{c['reward']['mean']:.3f} / {c['success']['mean']:.3f}",) for c in cells]
        )
    parts.append(Rows(header, rows))
    stages = list(dict.fromkeys(stage["stage"] for run in runs for stage in run["stages"]))
    seconds = [{s["stage"]: s["seconds"] for s in run["stages"]} for run in runs]
    table = [
        [(stage,), *((duration(run[stage]) if stage in run else "–",) for run in seconds)] for stage in stages
    ]
    table.append([("all",), *((duration(run["seconds"]),) for run in runs)])
    parts.append(Rows(["wall time", *(run["recipe"] for run in runs)], table))
    return parts


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
    with TrajectoryStore(directory / "trajectories.sqlite", create=False) as store:
        episodes = {name: store.get(Phase.evaluate(name, split)) for name in agents}
    return episodes | {SHIPPED: episodes[results["shipped"]["agent"]]}


def shipped_episodes(directory: Path, split: str = "test") -> tuple[str, list[Trajectory]]:
    """The agent that a run ships, and its episodes on `split`. Raises `InputError` for an unfinished run."""
    done = directory / "stages" / "test" / "DONE"
    if not done.exists():
        hint = "start it again: it resumes where it stopped"
        raise InputError("the run is not finished", where=str(directory), hint=hint)
    agent = str(read_done(done)["metrics"]["shipped"])
    with TrajectoryStore(directory / "trajectories.sqlite", create=False) as store:
        return agent, store.get(Phase.evaluate(agent, split))


def last_episodes(directory: Path, split: str) -> tuple[str, list[Trajectory]]:
    """The last agent that a run's method made and played on `split`, whichever was chosen, and its episodes.
    Raises `InputError` where none was played."""
    recipe = load_recipe(directory / "recipe.yaml", note=False)
    with TrajectoryStore(directory / "trajectories.sqlite", create=False) as store:
        played = set(store.phases())
        for stage in reversed(declared_stages(recipe.method)):
            if stage.agent and (phase := Phase.evaluate(stage.agent, split)) in played:
                return stage.agent, store.get(phase)
    hint = "start it again: it resumes where it stopped"
    raise InputError(f"no agent has played the {split} tasks", where=str(directory), hint=hint)
