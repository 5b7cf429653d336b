"""A recipe from start to the test of its agents, resumable at any point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eto.data.codec import prepare
from eto.data.files import disk_errors
from eto.data.formats import read_trajectories, write_trajectories
from eto.environments.hosting.requests import Reply, Request
from eto.experiment.acting import Acting
from eto.experiment.compose import expert_tasks, suite_of, tasks_of
from eto.experiment.fork import fork_stages, forkable_stages
from eto.experiment.lab import Lab
from eto.experiment.loading import (
    PolicyLoading,
    agents_left,
    check_embedded_room,
    check_for_training,
    check_optimisers,
    sure_to_load,
)
from eto.experiment.needs import advice, check_replay, unmet, unmet_text
from eto.experiment.play import collect, kept_experts
from eto.experiment.recipe import Recipe
from eto.experiment.recipe_fields import learned_optimisers
from eto.experiment.run import Run
from eto.experiment.run_records import check_place, check_template
from eto.experiment.tested import take_tests
from eto.experiment.trackers import check_installed
from eto.experiment.tracking import tracked
from eto.experiment.watch import Silent, Watcher
from eto.methods import declared_stages, load_method
from eto.protocols import Need
from eto.types import Phase, Task, Trajectory

if TYPE_CHECKING:
    from eto.environments.hosting.pool import EnvironmentPool
    from eto.protocols import TaskSuite
    from eto.training.learner import Learner

SPLITS = ("train", "dev", "test")
TRAINED = "trained"
"""The stage that ends a run without a test."""


def perform(
    recipe: Recipe,
    *,
    source: Path | None = None,
    watch: Watcher | None = None,
    share_tests: bool = False,
    test: bool = True,
) -> None:
    """Run `recipe` in its run directory up to the test of every agent; what is finished stays.

    What the run in `source` has finished and the recipe leaves unchanged is taken from it; with
    `share_tests` also the test episodes of agents taken so, where they would be the same. test: whether
    test tasks are played; `perform` can be called again to play them. Raises what `Run.open` and
    `eto.experiment.fork.fork_stages` do, and the errors of stages.
    """
    watch = watch or Silent()
    if source is not None:
        # A mistake in it must be reported before the model is loaded and the directory takes the recipe.
        forkable_stages(source, recipe)
    check_optimisers(recipe)
    check_installed(recipe)
    with PolicyLoading(recipe) as loading:
        suite = suite_of(recipe)
        splits = {split: tasks_of(recipe, suite, split) for split in SPLITS}
        with disk_errors(recipe.directory):
            check_place(recipe.directory)
            begun = (recipe.directory / "recipe.yaml").exists()
        if not begun and not sure_to_load(recipe):
            # A model that cannot be loaded must be reported before the directory takes the recipe.
            _loaded(loading, watch)
        if sure_to_load(recipe) and agents_left(recipe):
            check_embedded_room(recipe)
        with Run.open(recipe.directory, recipe) as run:
            for note in run.notes:
                watch.say(f"note: {note}")
            run.record_splits({split: [task.id for task in tasks] for split, tasks in splits.items()})
            if source is not None:
                taken = fork_stages(source, run)
                agents = take_tests(source, run, taken) if share_tests else []
                taken += [f"test of {agent}" for agent in agents]
                watch.say(f"taken from {source}: {', '.join(taken)}")
            with tracked(run, watch):
                if run.done("test") is None:
                    _learn(run, suite, splits, loading, watch, test)


def _learn(
    run: Run,
    suite: TaskSuite,
    splits: dict[str, list[Task]],
    loading: PolicyLoading,
    watch: Watcher,
    test: bool,
) -> None:
    """All stages: the experts, those of the method, the test of its agents if `test`."""
    from eto.engines.opening import simulator_start
    from eto.environments.hosting.pool import EnvironmentPool

    recipe = run.recipe
    prepare(Request, Reply, Trajectory)  # before a thread imports beside this one
    loading.start()
    # One set of simulators for all stages: starting them takes seconds.
    acting = Acting(recipe, watch, run.directory / "engine")
    start = simulator_start(recipe.rollout)
    with EnvironmentPool.within(suite, recipe.environment, start) as pool, acting:
        with_expert = expert_tasks(recipe, splits["train"])
        experts = _experts(run, suite, with_expert, pool, loading, watch)
        if experts and run.done(declared_stages(recipe.method)[0].name) is None:
            check_replay(recipe.method, suite, experts, recipe.environment, pool)
        learner = _loaded(loading, watch)
        check_template(run.manifest, learner.renderer.facts, run.directory)
        run.add_to_manifest(chat_template=learner.renderer.facts)
        if experts and recipe.tasks.experts_per_kind is None:
            splits = {**splits, "train": [expert.task for expert in experts]}
        lab = Lab(recipe, run, suite, splits, experts, learner, pool, watch, acting=acting)
        del learner  # the lab alone holds it, and can free it before it loads another
        loading.forget()
        outcome = load_method(recipe.method.name).train(lab, recipe.method)
        with run.stage("test" if test else TRAINED) as stage:
            for agent in outcome.agents if test else ():
                lab.become(agent)
                lab.measure(agent.name, "test")
                stage.played(Phase.evaluate(agent.name, "test"))
            stage.note(shipped=outcome.shipped, reason=outcome.reason)
    if outcome.note:
        watch.say(outcome.note)


def _experts(
    run: Run,
    suite: TaskSuite,
    tasks: Sequence[Task],
    pool: EnvironmentPool,
    loading: PolicyLoading,
    watch: Watcher,
) -> list[Trajectory]:
    """Stage `expert`: verified trajectories of the training tasks that have an expert. Ends early where
    the model, `loading` meanwhile, cannot be loaded."""
    with run.stage("expert") as stage:
        path = stage.directory / "expert.jsonl"
        if stage.done:
            return read_trajectories(path) if stage.metrics["kept"] else []
        workers, store = run.recipe.environment.workers, run.store
        collected = collect(
            suite,
            tasks,
            workers=workers,
            store=store,
            progress=watch,
            pool=pool,
            hint=_no_experts(run.recipe),
        )
        for _ in collected if tasks else ():
            loading.raise_failure()
        experts = kept_experts(store, tasks)
        write_trajectories(path, experts)
        stage.played(Phase.expert())
        stage.note(kept=len(experts), tasks=len(tasks))
        return experts


def _no_experts(recipe: Recipe) -> str | None:
    """What to do without experts; None where the method can do without."""
    if (need := unmet(recipe.method, Need.EXPERTS)) is None:
        return None
    name = recipe.method.name
    return f"{unmet_text(name, need)}; take tasks that have some; or {advice(need, name)}"


def _loaded(loading: PolicyLoading, watch: Watcher) -> Learner:
    loading.start()
    if loading.under_way:
        watch.say("loading the model")
    learner = loading.policy()
    if agents := agents_left(loading.recipe):
        learned = bool(learned_optimisers(loading.recipe.method))
        check_for_training(learner, loading.recipe.directory, agents, learned=learned)
    return learner
