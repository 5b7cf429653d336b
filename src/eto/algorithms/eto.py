"""ETO, Algorithm 1 of arXiv 2403.02502: clone, then explore, contrast, optimise, repeat.

Differs from the paper in what surrounds the algorithm, not in the algorithm: dev reward
is measured after each epoch and the best checkpoint goes on; a round that does not beat
its own starting agent on dev is reported and the search ends there; every stage is kept
in a workbench, so an interrupted call goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eto.algorithms.stages import OnStep, Round, Workbench, clone, contrast, home, optimise
from eto.methods.eto import EtoSettings
from eto.training.learner import Learner
from eto.types import Trajectory


@dataclass(frozen=True, slots=True)
class Outcome:
    """The agents of a run; `shipped` is the one dev chose."""

    shipped: str
    rounds: tuple[Round, ...]
    note: str = ""


def train(
    policy: Learner,
    expert: Sequence[Trajectory],
    cloned: Sequence[Trajectory],
    explore: Callable[[Learner, str], list[Trajectory]],
    dev_reward: Callable[[Learner, str], float],
    settings: EtoSettings,
    run: Workbench,
    on_step: OnStep | None = None,
) -> Outcome:
    """Train `policy` in place; it ends with the shipped agent's weights.

    expert: the expert trajectories to contrast with. cloned: those to clone, usually the
    same. explore(policy, name): the policy's episodes on the training tasks.
    dev_reward(policy, name): its average reward on dev. Both may keep what they did under
    `name` and return it at a second call. on_step: gets (stage, figures) of each step.
    """
    clone(policy, cloned, settings.sft, run, on_step)
    shipped, reward = "sft", dev_reward(policy, "sft")
    rounds: list[Round] = []
    note = ""
    for iteration in range(1, settings.iterations + 1):
        explored = explore(policy, str(iteration))
        pairs, left_out = contrast(policy, expert, explored, settings, run, iteration)
        if not pairs:
            why = "every task was won or tied"
            if left_out:
                why = f"{sum(map(len, left_out.values()))} had nothing to contrast within the context"
            note = f"round {iteration} gave no pairs: {why}; {shipped} is the result"
            break
        agent = f"eto-{iteration}"
        result = optimise(policy, pairs, expert, reward, dev_reward, settings, run, iteration, on_step)
        rounds.append(result)
        if not result.shipped:
            note = f"{agent} does not ship: {result.reason}"
            policy.reload(home(run, shipped))
            policy.name = shipped
            break
        shipped, reward = agent, result.dev_reward
    return Outcome(shipped, tuple(rounds), note)
