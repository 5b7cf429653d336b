"""What a training method sees of a run: tasks, experts, the learner, and where its stages are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eto.errors import InputError
from eto.experiment.acting import Acting
from eto.experiment.compose import cloned_part, policy_of, training_arguments
from eto.experiment.recipe import Recipe
from eto.experiment.run import Run
from eto.experiment.watch import Watcher, scoring, show_start, show_step
from eto.protocols import Agent, TaskSuite
from eto.runtime import release_memory
from eto.types import Phase, Prefix, Task, Trajectory

if TYPE_CHECKING:
    from eto.engines.actor import Actor, Choice
    from eto.environments.hosting.pool import EnvironmentPool
    from eto.training.learner import Learner
    from eto.training.loop import Fit, StepResult


@dataclass
class Lab:
    """An experiment under way. Steps (`eto.steps`) take it as their first argument."""

    recipe: Recipe
    run: Run
    """Keeps the stages, their episodes and their figures."""
    suite: TaskSuite
    splits: Mapping[str, Sequence[Task]]
    """`train` holds the tasks to practise on, those that have an expert unless the recipe says how many do
    or none has one; `dev` and `test`."""
    experts: list[Trajectory]
    """A verified trajectory of each training task that has an expert."""
    learner: Learner
    """The model, with the weights of the agent made or loaded last."""
    pool: EnvironmentPool
    """Simulators that stand for all stages."""
    watch: Watcher
    current: Agent | None = None
    """The agent made or loaded last; None while the learner has the weights of the recipe's model."""
    acting: Acting | None = None
    """Makes actors of the learner; None: they act in this process."""

    @cached_property
    def cloned(self) -> list[Trajectory]:
        """The experts to clone: all but the share that the recipe keeps for exploring unseen tasks. Raises
        `InputError` where there are experts and that leaves none of them."""
        cloned = cloned_part(self.recipe, self.experts)
        if self.experts and not cloned:
            share = self.recipe.tasks.explore_unseen
            raise InputError(
                f"{share:g} leaves none of the {len(self.experts)} experts to clone",
                where="tasks.explore_unseen",
                hint="lower it, or take more training tasks of a type",
            )
        return cloned

    @property
    def training(self) -> dict[str, Any]:
        """What training takes from the recipe besides its settings."""
        return training_arguments(self.recipe)

    def agent(self, name: str, stage: str, prompt: str = "") -> Agent:
        """The agent `name`, whose model is kept in the directory of `stage`."""
        return Agent(name, self.run.stage_directory(stage) / "model", prompt)

    def become(self, agent: Agent) -> None:
        """Give the learner the weights of `agent`, and its name and prompt to what it plays."""
        self.learner.load(agent.directory)
        self.current = agent

    def act_as(self, agent: Agent) -> None:
        """As `become`, where the learner is not `agent` already."""
        if self.current != agent:
            self.become(agent)

    def begin_again(self) -> None:
        """Give the learner the weights that the recipe's model has. The model it had is freed first."""
        del self.learner
        release_memory()
        self.learner, self.current = policy_of(self.recipe), None

    def play(
        self,
        split: str,
        phase: Phase,
        *,
        temperature: float,
        samples: int = 1,
        seed: int | None = None,
        prompts: Mapping[tuple[str, int], str] | None = None,
        choice: Choice | None = None,
    ) -> list[Trajectory]:
        """The learner's episodes of a split's tasks that `phase` of the store does not hold yet are played;
        returns all that did not fail. seed: by default the recipe's. prompts: by (task id, sample), what an
        episode's prompt ends with besides. choice: how it takes one of several actions."""
        from eto.experiment.play import play

        played = play(
            replace(self._actor(), choice=choice),
            self.suite,
            self.splits[split],
            self.recipe,
            progress=self.watch,
            phase=phase,
            samples=samples,
            temperature=temperature,
            seed=seed,
            prompts=prompts,
            store=self.run.store,
            pool=self.pool,
        )
        return [trajectory for trajectory in played if not trajectory.failed]

    def play_on(
        self,
        prefixes: Sequence[Prefix],
        phase: Phase,
        *,
        temperature: float,
        samples: int,
        seed: int,
        own_turns: int | None = None,
    ) -> list[list[Trajectory]]:
        """The learner's episodes from each prefix, `samples` each, of `own_turns` turns at most, that `phase`
        of the store does not hold yet are played; returns for each prefix those that did not fail."""
        from eto.experiment.play import play_on

        return play_on(
            self._actor(),
            self.suite,
            prefixes,
            self.recipe,
            progress=self.watch,
            phase=phase,
            samples=samples,
            temperature=temperature,
            seed=seed,
            own_turns=own_turns,
            store=self.run.store,
            pool=self.pool,
        )

    def _actor(self) -> Actor:
        """The learner as it acts: under the current agent's name and prompt."""
        name, prompt = (self.current.name, self.current.prompt) if self.current else ("policy", "")
        actor = self.acting.actor(self.learner, name) if self.acting else self.learner.actor(name)
        return replace(actor, prompt=prompt)

    def measure(self, name: str, split: str) -> float:
        """The learner's average reward on a split, played and logged under `name` with its interval and how
        it acted."""
        from eto.evaluation.behaviour import behaviour
        from eto.evaluation.statistics import mean_interval, rate_interval

        temperature = self.recipe.evaluation.temperature
        played = self.play(split, Phase.evaluate(name, split), temperature=temperature)
        reward = mean_interval([t.reward for t in played])
        success = rate_interval([float(t.success) for t in played if t.success is not None])
        figures = {"reward": reward.mean, "low": reward.low, "high": reward.high, "success": success.mean}
        acted = behaviour(played, self.learner.renderer.stops)
        how = acted.figures | {"verb": acted.verb} if acted else {}
        self.run.log(split, agent=name, step=0, **figures, **how)
        return reward.mean

    def train(self, stage: str, fit: Fit) -> None:
        """Take all steps of the training of `stage`; each is kept and shown."""
        self.show(stage, fit)
        for step in fit:
            self.log(stage, step)

    def scoring(self, stage: str) -> Callable[[int, int], None]:
        """Shows how far the scoring for `stage` is, where that takes long."""
        return scoring(self.watch, stage)

    def show(self, stage: str, fit: Fit) -> None:
        """Show where the training of `stage` begins, and the memory that it takes."""
        show_start(self.watch, stage, fit)

    def log(self, stage: str, step: StepResult) -> None:
        """Keep and show a training step."""
        self.run.log(stage, **step.row)
        show_step(self.watch, stage, step)
