"""`eto run`: a recipe from start to report, resumable at any point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eto.cli.compose import (
    cloned_part,
    read_recipe,
    section,
    step_reporter,
    suite_of,
    tasks_of,
)
from eto.cli.loading import (
    PolicyLoading,
    agents_left,
    check_embedded_room,
    check_for_training,
    sure_to_load,
)
from eto.cli.outputs import MARKDOWN, check_file
from eto.cli.progress import Progress
from eto.cli.terminal import say
from eto.files import disk_errors
from eto.formats import read_trajectories, write_trajectories
from eto.protocols import TaskSuite
from eto.recipe import Recipe
from eto.report import terminal, write_report
from eto.reuse import reusable_stages, reuse_stages
from eto.run import Run
from eto.run_records import check_place, check_template
from eto.settings import ExploreSettings
from eto.types import Task, Trajectory

if TYPE_CHECKING:
    from eto.environments.pool import EnvironmentPool
    from eto.training.learner import Learner


def run_recipe(path: Path, overrides: Sequence[str], source: Path | None = None) -> None:
    """Run the recipe at `path`; prints the table of agents at the end. What the run in `source` has
    finished and the recipe leaves as it is there is taken from it."""
    recipe = read_recipe(path, overrides, "run")
    if source is not None:
        # A mistake in it must be told before the model is loaded and the directory takes the recipe.
        reusable_stages(source, recipe)
    with Progress() as progress, PolicyLoading(recipe) as loading:
        progress.say(f"{recipe.name}: {path} -> {recipe.directory}")
        suite = suite_of(recipe)
        splits = {split: tasks_of(recipe, suite, split) for split in ("train", "dev", "test")}
        with disk_errors(recipe.directory):
            check_place(recipe.directory)
            begun = (recipe.directory / "recipe.yaml").exists()
        if not begun and not sure_to_load(recipe):
            # A model that cannot be loaded must be told before the directory takes the recipe.
            _loaded(loading, progress)
        if sure_to_load(recipe) and agents_left(recipe):
            check_embedded_room(recipe)
        with Run.open(recipe.directory, recipe) as run:
            for note in run.notes:
                progress.say(f"note: {note}")
            run.record_splits({split: [task.id for task in tasks] for split, tasks in splits.items()})
            if source is not None:
                progress.say(f"taken from {source}: {', '.join(reuse_stages(source, run))}")
            if run.done("test") is None:
                note = _learn(recipe, suite, splits, run, progress, loading)
                if note:
                    progress.say(note)
        print_report(recipe.directory)
        _say_what_next(recipe, path, progress)


def _loaded(loading: PolicyLoading, progress: Progress) -> Learner:
    loading.start()
    if loading.under_way:
        progress.say("loading the model")
    policy = loading.policy()
    if agents := agents_left(loading.recipe):
        check_for_training(policy, loading.recipe.directory, agents)
    return policy


def _learn(
    recipe: Recipe,
    suite: TaskSuite,
    splits: dict[str, list[Task]],
    run: Run,
    progress: Progress,
    loading: PolicyLoading,
) -> str:
    """All stages up to the test of every agent; returns what a person should know."""
    from eto.environments.pool import EnvironmentPool

    loading.start()
    # One set of simulators for all stages: starting them takes seconds.
    with EnvironmentPool.within(suite, recipe.environment) as pool:
        experts = _experts(recipe, suite, splits["train"], run, progress, pool, loading)
        policy = _loaded(loading, progress)
        check_template(run.manifest, policy.renderer.facts, run.directory)
        run.add_to_manifest(chat_template=policy.renderer.facts)
        splits = {**splits, "train": [expert.task for expert in experts]}
        return _train(policy, experts, _Episodes(recipe, suite, splits, run, progress, pool))


def _train(policy: Learner, experts: list[Trajectory], episodes: _Episodes) -> str:
    """The algorithm and the test of its agents; returns what a person should know."""
    from eto.algorithms import eto
    from eto.algorithms.stages import home

    recipe, run = episodes.recipe, episodes.run
    outcome = eto.train(
        policy,
        experts,
        cloned_part(recipe, experts),
        episodes.explore,
        episodes.check,
        recipe.method,
        run,
        on_step=step_reporter(episodes.progress.update),
    )

    def test(_: Path) -> str:
        for agent in ["sft", *(done.agent for done in outcome.rounds)]:
            policy.reload(home(run, agent))
            policy.name = agent
            episodes.measure(policy, agent, "test")
        return outcome.shipped

    reason = outcome.note or (outcome.rounds[-1].reason if outcome.rounds else "no iteration was asked for")
    run.stage(
        "test",
        test,
        load=lambda _: outcome.shipped,
        metrics=lambda agent: {"shipped": agent, "reason": reason},
    )
    return outcome.note


@dataclass(frozen=True, slots=True)
class _Episodes:
    """The episodes of a run: explored ones and those that measure an agent."""

    recipe: Recipe
    suite: TaskSuite
    splits: dict[str, list[Task]]
    run: Run
    progress: Progress
    pool: EnvironmentPool

    def explore(self, policy: Learner, name: str) -> list[Trajectory]:
        """The agent's own episodes on the training tasks, for iteration `name`."""
        explore = section(self.recipe, ExploreSettings)
        seed = self.recipe.seed * 1000 + int(name)
        phase, heat = f"explore/{name}", explore.temperature
        return self.run.stage(
            f"explore-{name}",
            lambda _: self._play(policy, "train", phase, heat, explore.samples, seed),
            load=lambda _: self.run.store.get(phase),
        )

    def check(self, policy: Learner, name: str) -> float:
        """Average reward on dev. The cloned agent's check is a stage; an epoch's is part of its own."""
        if not self.splits["dev"]:
            return 0.0
        if "/" in name:
            return self.measure(policy, name, "dev")
        return self.run.stage(
            f"dev-{name}",
            lambda _: self.measure(policy, name, "dev"),
            load=lambda _: self.run.done(f"dev-{name}")["metrics"]["reward"],
            metrics=lambda reward: {"reward": reward},
        )

    def measure(self, policy: Learner, name: str, split: str) -> float:
        """Average reward of agent `name` on a split; logged with its interval."""
        from eto.statistics import mean_interval, rate_interval

        evaluation = self.recipe.evaluation
        played = self._play(policy, split, f"evaluate/{name}/{split}", evaluation.temperature)
        reward = mean_interval([t.reward for t in played])
        success = rate_interval([float(t.success) for t in played if t.success is not None])
        figures = {"reward": reward.mean, "low": reward.low, "high": reward.high, "success": success.mean}
        self.run.log(split, agent=name, step=0, **figures)
        return reward.mean

    def _play(
        self,
        policy: Learner,
        split: str,
        phase: str,
        temperature: float,
        samples: int = 1,
        seed: int | None = None,
    ) -> list[Trajectory]:
        """All finished episodes of a phase."""
        from eto.cli.play import play

        played = play(
            policy.actor(policy.name),
            self.suite,
            self.splits[split],
            self.recipe,
            progress=self.progress,
            phase=phase,
            samples=samples,
            temperature=temperature,
            seed=seed,
            store=self.run.store,
            pool=self.pool,
        )
        return [trajectory for trajectory in played if not trajectory.failed]


def _experts(
    recipe: Recipe,
    suite: TaskSuite,
    tasks: Sequence[Task],
    run: Run,
    progress: Progress,
    pool: EnvironmentPool,
    loading: PolicyLoading,
) -> list[Trajectory]:
    """Stage `expert`: verified trajectories of the training tasks that have an expert. Ends early where
    the model, `loading` meanwhile, cannot be loaded."""
    from eto.cli.play import collect, kept_experts

    def make(directory: Path) -> list[Trajectory]:
        workers, store = recipe.environment.workers, run.store
        for _ in collect(suite, tasks, workers=workers, store=store, progress=progress, pool=pool):
            loading.raise_failure()
        experts = kept_experts(store, tasks)
        write_trajectories(directory / "expert.jsonl", experts)
        return experts

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


def print_pooled(
    directories: Sequence[Path], against: Sequence[Path], out: Path | None, overwrite: bool = False
) -> None:
    """Print the pooled table of several runs, or what sets them apart from others; or write it to `out`."""
    from eto.files import write_atomic
    from eto.report.pooled import compare_runs, comparison_markdown, pool_runs, pooled_markdown

    if out is not None:
        runs = {f"the run {path.name}": path for path in (*directories, *against)}
        check_file(out, overwrite=overwrite, inputs=runs, form=MARKDOWN)
    if against:
        text = comparison_markdown(compare_runs(directories, against), against)
    else:
        text = pooled_markdown(pool_runs(directories))
    if out is None:
        say(text)
    else:
        with disk_errors(out):
            write_atomic(out, text)
        say(f"written: {out}")


def _say_what_next(recipe: Recipe, path: Path, progress: Progress) -> None:
    from eto.report import build_results

    shipped = (build_results(recipe.directory)["shipped"] or {"agent": "sft"})["agent"]
    model = recipe.directory / "stages" / shipped.replace("eto-", "dpo-") / "model"
    progress.say("what next:")
    progress.say(f"  eto evaluate --model {model} --recipe {path} --split dev")
    key, value = ("run_directory", recipe.run_directory) if recipe.run_directory else ("name", recipe.name)
    value = value.removesuffix(f"-seed{recipe.seed}")
    progress.say(f"  eto run {path} seed={recipe.seed + 1} {key}={value}-seed{recipe.seed + 1}")
    progress.say("  eto doctor; eto --help; README.md tells how to bring your own model and tasks")
