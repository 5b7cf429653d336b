"""Practice: few experts, many tasks without any; own successes are cloned, own failures set against them.

The order of the ETO paper's experiment without experts (arXiv 2403.02502, section 5: RFT, then ETO on pairs
of the agent's own episodes), begun from a clone of the experts there are:

    clone E;  repeat: play tasks at temperature > 0;  clone E and the shortest own success of each task;
    DPO on pairs of own episodes of one task, the higher reward chosen

Without experts (`tasks.experts_per_kind: 0`) it begins with the recipe's model, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from eto import steps
from eto.credit.contrast import accumulated
from eto.errors import InputError
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    ExploreSettings,
    GuardSettings,
    MethodSettings,
    SftSettings,
)
from eto.settings.base import Conflict, Most
from eto.settings.limits import Count
from eto.types import Pair, Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class PracticeSettings(MethodSettings):
    """Cloning, then rounds of own episodes: their successes cloned, their failures contrasted."""

    name: Literal["practice"] = "practice"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 1
    """Rounds of playing, cloning and preference training."""
    sft: SftSettings = SftSettings(epochs=6, learning_rate=1e-4, batch_size=4)
    """Behavioural cloning of the experts there are."""
    explore: ExploreSettings = ExploreSettings(samples=6, temperature=1.0)
    """The agent's own episodes."""
    least_reward: Annotated[float, Field(gt=0, le=1)] = 1.0
    """An episode of at least this reward is a success."""
    rft: SftSettings = SftSettings(epochs=5, learning_rate=5e-5, batch_size=4)
    """Cloning of the experts and the successes, from the agent that played."""
    contrast: ContrastSettings = ContrastSettings(
        agent_pairs=True, per_task=2, min_gap=0.1, margin_turns=3, turns="window", window=3, repeats=False
    )
    """Pairs of own episodes: of each task the best against the others."""
    fresh_pairs: bool = False
    """Whether pairs are of episodes that the agent plays once its successes are cloned. Otherwise they are of
    the episodes that these were taken from."""
    accumulate: bool = False
    """Whether a round also trains on the pairs of the rounds before."""
    dpo: DpoSettings | None = DpoSettings(
        epochs=1, learning_rate=5e-6, beta=0.3, batch_size=16, sft_weight=0.2, anchor="sum"
    )
    """Preference training on the pairs; null: none, a round only clones."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training. The best of all agents on dev ships."""

    def needs_dev(self) -> str:
        return "guard.dev_every_epoch" if self.dpo and self.guard.dev_every_epoch else ""

    def without_effect(self) -> Mapping[str, str]:
        if self.dpo is None:
            idle = ("contrast", "fresh_pairs", "accumulate", "guard")
            return dict.fromkeys(idle, "give method.dpo settings")
        change = {} if self.iterations > 1 else {"accumulate": "set method.iterations above 1"}
        return change | {
            "contrast.both_directions": "take method eto, which compares with the expert",
            "guard.ship_only_if_better": "leave it to the dev tasks: the best agent ships",
        }

    @model_validator(mode="after")
    def _pairs_of_own_episodes(self) -> Self:
        if self.dpo is None:
            return self
        if not self.contrast.agent_pairs:
            raise Conflict(
                "pairs are of own episodes: set {place}contrast.agent_pairs to true, or {place}dpo to null"
            )
        if self.explore.samples == 1:
            raise Conflict("one episode is no pair: raise {place}explore.samples, or set {place}dpo to null")
        return self


BEGIN_OTHERWISE = (
    "give it a start: easier tasks, more method.explore.samples, a lower method.least_reward, some experts "
    "(tasks.experts_per_kind), or a model that already follows the prompt"
)


def train(lab: Lab, settings: PracticeSettings) -> Outcome:
    """Clone, then practise: what was won is cloned, what was lost is set against it."""
    acting = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {acting: steps.evaluate(lab, acting)}
    trained_on: list[Pair] = []
    for iteration in range(1, settings.iterations + 1):
        first, second = explorations(settings, iteration)
        explored = steps.explore(lab, settings.explore, first)
        if note := steps.lacks(lab, settings, explored, least_reward=settings.least_reward):
            if iteration == 1 and not lab.experts:
                raise InputError(note, where="stage explore-1", hint=BEGIN_OTHERWISE)
            return steps.select(lab, rewards, note)
        won = shortest_successes(explored, settings.least_reward)
        acting = steps.clone(lab, [*lab.cloned, *won], settings.rft, agent=f"rft-{iteration}")
        rewards[acting] = steps.evaluate(lab, acting)
        if settings.dpo is None:
            continue
        if second != first:
            explored = steps.explore(lab, settings.explore, second)
        pairs, why = steps.contrast(lab, [], explored, settings.contrast, settings.dpo, iteration)
        if not pairs:
            lab.watch.say(f"round {iteration} gave no pairs: {why}")
            continue
        trained_on = accumulated(trained_on, pairs) if settings.accumulate else pairs
        acting, result = steps.prefer(
            lab,
            trained_on,
            settings.dpo,
            contrast=settings.contrast,
            guard=settings.guard,
            agent=f"practice-{iteration}",
            start_reward=rewards[acting],
            iteration=iteration,
        )
        rewards[acting] = result.dev_reward
    return steps.select(lab, rewards)


def explorations(settings: PracticeSettings, iteration: int) -> tuple[int, int]:
    """Numbers, from 1, of the exploration stages that give a round its successes and its pairs."""
    if settings.dpo is None or not settings.fresh_pairs:
        return iteration, iteration
    return 2 * iteration - 1, 2 * iteration


def shortest_successes(explored: Iterable[Trajectory], least_reward: float) -> list[Trajectory]:
    """Of each task the success with the fewest turns, of equals the lowest sample number."""
    best: dict[str, Trajectory] = {}
    for each in sorted(explored, key=lambda t: (t.task.id, len(t.turns), t.sample)):
        if not each.failed and each.turns and each.reward >= least_reward:
            best.setdefault(each.task.id, each)
    return list(best.values())


def stages(settings: PracticeSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    for n in range(1, settings.iterations + 1):
        first, second = explorations(settings, n)
        played_by = ("dpo",) if settings.dpo is None and n > 1 else ()
        declared += [
            Stage.explore(first, "explore", *played_by),
            Stage.clone(f"rft-{n}", "least_reward", "rft"),
            Stage.dev(f"rft-{n}"),
        ]
        if settings.dpo is None:
            continue
        if second != first:
            declared.append(Stage.explore(second, "fresh_pairs"))
        added = ("accumulate",) if n > 1 else ()
        declared += [
            Stage.contrast(n, "contrast", "fresh_pairs"),
            Stage.prefer(f"practice-{n}", n, "dpo", "guard", *added),
        ]
    return declared


OWN_SUCCESSES = "own successes cloned for as many tokens"


def controls(settings: PracticeSettings, tokens: Mapping[str, int]) -> dict[str, PracticeSettings]:
    """Rounds that only clone, with as many epochs of that as pass the tokens of all training: whether the
    pairs do more than further epochs on the successes."""
    own = sum(passed for stage, passed in tokens.items() if stage.startswith("rft-"))
    if settings.dpo is None or not own:
        return {}
    epochs = settings.rft.epochs * (sum(tokens.values()) - tokens.get("sft", 0)) / own
    given = {name: getattr(settings, name) for name in ("iterations", "sft", "explore", "least_reward")}
    cloned = PracticeSettings(**given, rft=settings.rft.replace(epochs=round(epochs)), dpo=None)
    return {OWN_SUCCESSES: cloned}


METHOD = Method(
    name="practice",
    summary="few experts: clone own successes, contrast own failures",
    settings=PracticeSettings,
    train=train,
    stages=stages,
    extent=("iterations", "dpo"),
    controls=controls,
    needs=lambda settings: [Need.REWARD | Need.OWN_SPREAD if settings.dpo else Need.REWARD],
)
