"""`eto run`: a recipe from start to report, resumable at any point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eto.cli.compose import (
    cloned_part,
    policy_of,
    read_recipe,
    rollout_settings,
    settings_of,
    step_reporter,
    suite_of,
    tasks_of,
)
from eto.cli.progress import Progress
from eto.errors import EnvironmentFailure
from eto.formats import read_trajectories, write_trajectories
from eto.protocols import TaskSuite
from eto.recipe import Recipe
from eto.report import terminal, write_report
from eto.run import Run
from eto.types import Task, Trajectory


def run_recipe(path: Path, overrides: Sequence[str]) -> None:
    """Run the recipe at `path`; prints the table of agents at the end."""
    recipe = read_recipe(path, overrides)
    progress = Progress()
    progress.say(f"{recipe.name}: {path} -> {recipe.directory}")
    suite = suite_of(recipe)
    splits = {split: tasks_of(recipe, suite, split) for split in ("train", "dev", "test")}
    with Run.open(recipe.directory, recipe) as run:
        for note in run.notes:
            progress.say(f"note: {note}")
        run.record_splits({split: [task.id for task in tasks] for split, tasks in splits.items()})
        if run.done("test") is None:
            note = _learn(recipe, suite, splits, run, progress)
            if note:
                progress.say(note)
    print_report(recipe.directory)
    _say_what_next(recipe, path, progress)


def _learn(
    recipe: Recipe, suite: TaskSuite, splits: dict[str, list[Task]], run: Run, progress: Progress
) -> str:
    """All stages up to the test of every agent; returns what a person should know."""
    experts = _experts(recipe, suite, splits["train"], run, progress)
    progress.say("loading the model")
    from eto.algorithms import eto
    from eto.algorithms.stages import home
    from eto.cli.play import play
    from eto.policies.transformers import TransformersPolicy
    from eto.statistics import mean_interval, rate_interval

    policy = policy_of(recipe)
    explored_tasks = [t.task for t in experts]
    evaluation = rollout_settings(
        recipe, temperature=recipe.evaluation.temperature, slots=recipe.evaluation.slots
    )

    def explore(policy: TransformersPolicy, name: str) -> list[Trajectory]:
        settings = rollout_settings(
            recipe,
            temperature=recipe.explore.temperature,
            slots=recipe.explore.slots,
            seed=recipe.seed * 1000 + int(name),
        )
        return play(
            policy,
            suite,
            explored_tasks,
            settings,
            samples=recipe.explore.samples,
            store=run.store,
            phase=f"explore/{name}",
            update=progress.update,
        )

    def measure(policy: TransformersPolicy, name: str, split: str) -> float:
        phase = f"evaluate/{name}/{split}"
        played = play(
            policy, suite, splits[split], evaluation, store=run.store, phase=phase, update=progress.update
        )
        if not played:
            raise EnvironmentFailure(f"no episode of {split} could be played", mend="run `eto doctor`")
        reward = mean_interval([t.reward for t in played])
        success = rate_interval([float(bool(t.success)) for t in played])
        figures = {"reward": reward.mean, "low": reward.low, "high": reward.high, "success": success.mean}
        run.log(split, agent=name, step=0, **figures)
        return reward.mean

    outcome = eto.train(
        policy,
        experts,
        cloned_part(recipe, experts),
        explore,
        lambda policy, name: measure(policy, name, "dev") if splits["dev"] else 0.0,
        settings_of(recipe),
        run,
        on_step=step_reporter(progress.update),
    )

    def test(_: Path) -> str:
        for agent in ["sft", *(done.agent for done in outcome.rounds)]:
            policy.reload(home(run, agent))
            policy.name = agent
            measure(policy, agent, "test")
        return outcome.shipped

    reason = outcome.note or (outcome.rounds[-1].reason if outcome.rounds else "no iteration was asked for")
    run.stage(
        "test",
        test,
        load=lambda _: outcome.shipped,
        metrics=lambda agent: {"shipped": agent, "reason": reason},
    )
    return outcome.note


def _experts(
    recipe: Recipe, suite: TaskSuite, tasks: Sequence[Task], run: Run, progress: Progress
) -> list[Trajectory]:
    """Stage `expert`: verified trajectories of the training tasks that have an expert."""
    from eto.environments.pool import collect_experts

    def make(directory: Path) -> list[Trajectory]:
        counts = {"done": 0, "kept": 0}
        progress.update("expert", 0, len(tasks))

        def done(_: Task, trajectory: Trajectory | None) -> None:
            counts["done"] += 1
            counts["kept"] += trajectory is not None
            progress.update("expert", counts["done"], len(tasks), kept=counts["kept"])

        found = collect_experts(suite, tasks, workers=recipe.environment.workers, on_done=done)
        if not found:
            raise EnvironmentFailure("no task has an expert that solves it", mend="take other task types")
        write_trajectories(directory / "expert.jsonl", found)
        return found

    return run.stage(
        "expert",
        make,
        load=lambda directory: read_trajectories(directory / "expert.jsonl"),
        metrics=lambda found: {"kept": len(found), "tasks": len(tasks)},
    )


def print_report(directory: Path) -> None:
    """Write the report of a run directory and print its table."""
    from eto.files import read_json

    paths = write_report(directory)
    progress = Progress()
    progress.console.print(terminal(read_json(paths.results)))
    progress.say(f"figures {paths.results}   report {paths.markdown}   learning curve {paths.curve}")


def _say_what_next(recipe: Recipe, path: Path, progress: Progress) -> None:
    from eto.report import build_results

    shipped = (build_results(recipe.directory)["shipped"] or {"agent": "sft"})["agent"]
    model = recipe.directory / "stages" / shipped.replace("eto-", "dpo-") / "model"
    progress.say("what next:")
    progress.say(f"  eto evaluate --model {model} --recipe {path} --split dev")
    progress.say(f"  eto run {path} seed=1 name={recipe.name}-seed1")
    progress.say("  eto doctor; eto --help; README.md tells how to bring your own model and tasks")
