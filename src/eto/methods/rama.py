"""RAMa (arXiv 2110.13241) on episodes: a memory of all tasks and rounds, from which successes are retrieved.

The paper trains a world model on batches of which half is retrieved by learned addresses p = softmax(q . k).
Here what is retrieved is shown in prompts, and cloned:

    clone E;  memory = E;  repeat: play;  play with a success of another task in the prompt, drawn by p;
    p by REINFORCE on the rewards of those episodes;  clone E, the own successes, and others drawn by p

No preference pairs are made, so that none is of another task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from eto import steps
from eto.data.retrieval import Draw, Learned, Memory
from eto.methods.practice import shortest_successes
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import ExploreSettings, MethodSettings, SftSettings
from eto.settings.base import Most
from eto.settings.limits import Count
from eto.settings.retrieval import RetrievalSettings
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class RamaSettings(MethodSettings):
    """Cloning, then rounds of own episodes, with and without a retrieved success, and cloning again."""

    name: Literal["rama"] = "rama"
    """The method."""
    iterations: Annotated[Count, Most(1000)] = 2
    """Rounds of playing, learning to retrieve, and cloning."""
    sft: SftSettings = SftSettings(epochs=6, learning_rate=1e-4, batch_size=4)
    """Behavioural cloning of the experts."""
    explore: ExploreSettings = ExploreSettings(samples=3, temperature=1.0)
    """The agent's own episodes without a retrieved success."""
    least_reward: Annotated[float, Field(gt=0, le=1)] = 1.0
    """An episode of at least this reward is a success."""
    retrieval: RetrievalSettings = RetrievalSettings()
    """What is retrieved, how, and for what."""
    rft: SftSettings = SftSettings(epochs=2, learning_rate=5e-5, batch_size=4)
    """Cloning of experts, own successes and retrieved ones, from the agent that played."""

    def without_effect(self) -> Mapping[str, str]:
        retrieval, idle = self.retrieval, dict[str, str]()
        if not retrieval.shown:
            change = "set method.retrieval.shown above 0"
            idle = {f"retrieval.{name}": change for name in ("shown_turns", "learning_rate")}
        if not retrieval.shown and not retrieval.rehearsed:
            change = "set method.retrieval.shown or method.retrieval.rehearsed above 0"
            idle |= {f"retrieval.{name}": change for name in ("addressing", "return_temperature", "scale")}
        elif retrieval.addressing == "learned":
            idle["retrieval.return_temperature"] = "set method.retrieval.addressing to return"
        else:
            change = "set method.retrieval.addressing to learned"
            idle |= {f"retrieval.{name}": change for name in ("scale", "learning_rate")}
        return idle


def train(lab: Lab, settings: RamaSettings) -> Outcome:
    """Clone, then rounds in which the memory grows, is addressed better, and is cloned from."""
    rules, least = settings.retrieval, settings.least_reward
    acting = steps.clone(lab, lab.cloned, settings.sft)
    rewards = {acting: steps.evaluate(lab, acting)}
    memory, addressing = Memory(lab.cloned), steps.addressing_of(rules, lab.recipe.seed)
    for iteration in range(1, settings.iterations + 1):
        explored = steps.explore(lab, settings.explore, iteration)
        if iteration == 1 and (note := steps.lacks(lab, settings, explored, least_reward=least)):
            return steps.select(lab, rewards, note)
        prompts = {each.task.id: each.messages for each in explored}
        memory.add(explored)
        shown: list[Trajectory] = []
        draws: list[Draw] = []
        if rules.shown:
            shown, draws = steps.show(
                lab, memory, addressing, explored, settings.explore, rules, least, iteration
            )
        if draws and isinstance(addressing, Learned):
            steps.learn_addresses(lab, addressing, draws, memory, iteration)
        memory.add(shown)
        won = shortest_successes([*explored, *shown], least)
        seed = (lab.recipe.seed, iteration, 2)
        found = steps.rehearsal(memory, addressing, prompts, rules.rehearsed, least, seed)
        fresh = Memory(lab.cloned)
        fresh.add([*won, *found])
        acting = steps.clone(lab, fresh.trajectories, settings.rft, agent=f"rama-{iteration}")
        rewards[acting] = steps.evaluate(lab, acting)
    return steps.select(lab, rewards)


def stages(settings: RamaSettings) -> list[Stage]:
    """`train` as stages."""
    declared = [Stage.clone("sft", "sft"), Stage.dev("sft")]
    retrieval = settings.retrieval
    for n in range(1, settings.iterations + 1):
        declared.append(Stage.explore(n, "explore"))
        if retrieval.shown:
            declared.append(Stage.continued(f"shown-{n}", "retrieval", "least_reward", iteration=n))
            if retrieval.addressing == "learned":
                declared.append(Stage(f"addressing-{n}", iteration=n))
        declared += [
            Stage.clone(f"rama-{n}", "retrieval", "least_reward", "rft"),
            Stage.dev(f"rama-{n}"),
        ]
    return declared


METHOD = Method(
    name="rama",
    summary="successes of all tasks and rounds, retrieved for prompts and cloning",
    settings=RamaSettings,
    train=train,
    stages=stages,
    extent=("iterations",),
    needs=lambda settings: [Need.EXPERTS | Need.REWARD],
)
