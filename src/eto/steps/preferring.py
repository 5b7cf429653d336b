"""Preferring: preference training with dev checks, of which the best checkpoint continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields

from eto.data.files import read_object, write_json
from eto.experiment.lab import Lab
from eto.experiment.stage import OpenStage
from eto.protocols import Agent, Stage
from eto.settings import ContrastSettings, DpoSettings, GuardSettings
from eto.steps.cloning import drop_state
from eto.steps.selecting import Checks
from eto.training.guard import exceeded, misbehaves
from eto.training.loop import Fit
from eto.training.preference import keep_reference, preference
from eto.types import Pair


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one round of preference training."""

    agent: str
    pairs: int
    """Pairs, or trajectories where there are none, that it was trained on."""
    fired: str | None
    """The guard's rule that stopped training, if any."""
    best_epoch: int
    dev_reward: float
    start_reward: float
    shipped: bool
    dev_tasks: bool = True
    """Whether there are any; without, rewards are 0 and the only checkpoint is the end of training."""

    @property
    def reason(self) -> str:
        if not self.dev_tasks:
            stopped = f"; training was stopped ({self.fired})" if self.fired else ""
            return f"the last, as there are no dev tasks{stopped}"
        verdict = "better than" if self.dev_reward > self.start_reward else "not better than"
        reason = f"dev reward {self.dev_reward:.3f}, {verdict} the starting agent's {self.start_reward:.3f}"
        if not self.fired:
            return reason
        return (
            f"{reason}; training was stopped ({self.fired}), epoch {self.best_epoch} is the best checkpoint"
        )


def prefer(
    lab: Lab,
    pairs: Sequence[Pair],
    settings: DpoSettings,
    *,
    contrast: ContrastSettings,
    guard: GuardSettings,
    agent: str,
    start_reward: float,
    iteration: int = 1,
    reference: Agent | None = None,
) -> tuple[Agent, Round]:
    """Stage `dpo-<iteration>`: the learner becomes `agent`, its best epoch on dev, better than before or not.

    start_reward: of the learner as it comes in, on dev. Experts whose tasks gave no pair are rehearsed, where
    `settings` give that a weight. reference: that of the loss; None: the learner as it comes in.
    """
    with lab.run.stage(Stage.prefer(agent, iteration).name) as stage:
        if not stage.done:
            checks = Checks(lab, stage, start_reward)
            paired = {pair.task.id for pair in pairs}
            others = [expert for expert in lab.experts if expert.task.id not in paired]
            if reference is not None and lab.current is not None and reference != lab.current:
                start = lab.current
                lab.become(reference)
                keep_reference(
                    lab.learner,
                    pairs,
                    settings,
                    contrast=contrast,
                    directory=stage.directory,
                    progress=lab.scoring(stage.name),
                )
                lab.become(start)
            fit = preference(
                lab.learner,
                pairs,
                settings,
                contrast=contrast,
                rehearsal=others if settings.rehearsal_weight else None,
                directory=stage.directory,
                progress=lab.scoring(stage.name),
                **lab.training,
            )
            train_checked(lab, stage, fit, checks, guard)
            keep_round(stage, fit, checks, guard, agent=agent, count=len(pairs))
        made = lab.agent(agent, stage=stage.name)
        lab.become(made)
        done = kept_round(stage)
    drop_state(stage.directory)
    return made, done


def keep_round(
    stage: OpenStage, fit: Fit, checks: Checks, guard: GuardSettings, *, agent: str, count: int
) -> None:
    """Write down what training with dev checks came to: `stage` makes `agent`, the best checkpoint, of
    `count` pairs or trajectories."""
    stage.played(*map(checks.phase, checks.rewards))
    (best, step), reward = checks.best()
    start, measured = checks.start_reward, bool(checks.lab.splits["dev"])
    ships = reward > start or not guard.ship_only_if_better
    done = Round(agent, count, fit.stopped, best, reward, start, ships, measured)
    write_json(stage.directory / "round.json", asdict(done))
    stage.note(guard=done.fired, best_epoch=best, tokens=fit.tokens)
    if measured:
        stage.note(dev_reward=reward, start_reward=start)
    if step is not None:
        stage.note(best_step=step)
    stage.makes(agent)


def kept_round(stage: OpenStage) -> Round:
    """What `keep_round` wrote down."""
    names = [field.name for field in fields(Round)]
    required = [field.name for field in fields(Round) if field.default is MISSING]
    noted = read_object(stage.directory / "round.json", *required)  # earlier versions wrote these alone
    return Round(**{name: noted[name] for name in names if name in noted})


def train_checked(lab: Lab, stage: OpenStage, fit: Fit, checks: Checks, guard: GuardSettings) -> None:
    """Train to the end, or to the first bound of `guard` that is exceeded, with the dev checks that it asks
    for and one at the end."""
    lab.show(stage.name, fit)
    last, every = fit.settings.epochs, guard.dev_every_steps

    def check(epoch: int, step: int | None = None) -> None:
        """Play dev, and stop training where it asks for that."""
        checks.measure(epoch, step)
        if fit.stopped is not None or not guard.dev_every_epoch:
            return
        place = f"epoch {epoch}" if step is None else f"step {step}"
        if bound := misbehaves(checks.behaviour(epoch, step), guard):
            fit.stop(f"after {place}, {bound}")
        elif not fit.done and checks.patience_spent(epoch, guard.patience, step):
            fit.stop(f"after {place}, no better dev check for {guard.patience} in a row")

    for epoch in fit.epochs():
        for step in epoch:
            lab.log(stage.name, step)
            if bound := exceeded(step.figures, guard):
                fit.stop(bound)
            elif every and step.step % every == 0 and not fit.at_epoch_end:
                check(epoch.number, step.step)
        ends = guard.dev_every_epoch or epoch.number == last or fit.stopped is not None
        if ends and (epoch.number, fit.step) not in checks.rewards:
            check(epoch.number)
    if fit.stopped:
        lab.watch.say(f"{stage.name} was stopped: {fit.stopped}")
