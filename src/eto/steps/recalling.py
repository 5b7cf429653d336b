"""Recalling: successes of a memory, shown in prompts and rehearsed, and how it learns to find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from eto.data.files import read_json, write_json
from eto.data.retrieval import Addressing, ByReturn, Draw, Learned, Memory, Vector, draw, query_vector
from eto.engines.actor import unmark
from eto.experiment.lab import Lab
from eto.experiment.play import in_task_order
from eto.settings import ExploreSettings
from eto.settings.retrieval import RetrievalSettings
from eto.types import Message, Phase, Trajectory

Prompts = Mapping[str, Sequence[Message]]
"""Task id -> what its episodes begin with."""


def addressing_of(settings: RetrievalSettings, seed: int = 0) -> Addressing:
    """As the settings say, before anything is learned."""
    if settings.addressing == "return":
        return ByReturn(settings.return_temperature)
    return Learned(settings.scale, settings.learning_rate, seed)


def show(
    lab: Lab,
    memory: Memory,
    addressing: Addressing,
    bare: Sequence[Trajectory],
    explore: ExploreSettings,
    settings: RetrievalSettings,
    least_reward: float,
    iteration: int = 1,
) -> tuple[list[Trajectory], list[Draw]]:
    """Stage `shown-<iteration>`: episodes whose prompts end with a retrieved success of another task, as if
    they had been played without it; and what was drawn for them, with what it led to.

    bare: the round's episodes without one, which give the queries and take part in the baseline: the mean
    reward of a task's episodes. A task without a query, or without a success elsewhere, is played as it is.
    """
    name, phase = f"shown-{iteration}", Phase.continued(f"shown-{iteration}")
    queries = {each.task.id: query_vector(each.messages) for each in bare}
    with lab.run.stage(name) as stage:
        path = stage.directory / "shown.json"
        if not path.exists():
            drawn = _drawn(lab, memory, addressing, queries, settings.shown, least_reward, iteration)
            write_json(path, drawn)
        places: dict[str, list[int]] = read_json(path)
        texts = {
            (task_id, sample): demonstration(memory.trajectories[place], settings.shown_turns)
            for task_id, given in places.items()
            for sample, place in enumerate(given)
        }
        if stage.done:
            played = in_task_order(lab.run.store.get(phase), lab.splits["train"])
        else:
            played = lab.play(
                "train",
                phase,
                temperature=explore.temperature,
                samples=settings.shown,
                seed=lab.recipe.seed * 1000 + 500 + iteration,
                prompts=texts,
            )
            stage.played(phase)
            stage.note(shown=len(texts), episodes=len(played))
    baseline = _means([*bare, *played])
    draws = [
        Draw(
            queries[each.task.id],
            tuple(memory.successes(least_reward, but=each.task.id)),
            places[each.task.id][each.sample],
            each.reward,
            baseline[each.task.id],
        )
        for each in played
        if (each.task.id, each.sample) in texts
    ]
    return [without(each, texts.get((each.task.id, each.sample), "")) for each in played], draws


def _drawn(
    lab: Lab,
    memory: Memory,
    addressing: Addressing,
    queries: Mapping[str, Vector],
    count: int,
    least_reward: float,
    iteration: int,
) -> dict[str, list[int]]:
    """For each task the places of the successes that its episodes are shown, each drawn anew."""
    random = np.random.default_rng((lab.recipe.seed, iteration))
    drawn = {}
    for task_id, query in sorted(queries.items()):
        if places := memory.successes(least_reward, but=task_id):
            drawn[task_id] = [draw(addressing, query, memory, places, 1, random)[0] for _ in range(count)]
    return drawn


def learn_addresses(
    lab: Lab, addressing: Learned, draws: Sequence[Draw], memory: Memory, iteration: int = 1
) -> None:
    """Stage `addressing-<iteration>`: a pass of REINFORCE over a round's draws, in a random order."""
    with lab.run.stage(f"addressing-{iteration}") as stage:
        path = stage.directory / "addressing.npz"
        if not stage.done:
            order = np.random.default_rng((lab.recipe.seed, iteration, 1)).permutation(len(draws))
            addressing.learn([draws[number] for number in order], memory)
            addressing.save(path)
            gain = float(np.mean([each.reward - each.baseline for each in draws])) if draws else 0.0
            stage.note(draws=len(draws), gain=gain)
        addressing.load(path)


def rehearsal(
    memory: Memory,
    addressing: Addressing,
    prompts: Prompts,
    each: int,
    least_reward: float,
    seed: Sequence[int],
) -> list[Trajectory]:
    """For each task up to `each` successes of any task, those found for several of them once; in the order of
    the memory. They are for cloning: of another task's trajectories no preference pair is made."""
    random, places = np.random.default_rng(seed), memory.successes(least_reward)
    found: set[int] = set()
    if places and each:
        for _, messages in sorted(prompts.items()):
            found |= set(draw(addressing, query_vector(messages), memory, places, each, random))
    return [memory.trajectories[place] for place in sorted(found)]


def demonstration(trajectory: Trajectory, most_turns: int) -> str:
    """A trajectory as a paragraph of another task's prompt, from its beginning."""
    lines = ["An example, another task that was solved:", trajectory.messages[-1].content]
    for turn in trajectory.turns[:most_turns]:
        lines += [f"> {turn.action}", turn.observation]
    lines.append("So much for the example. Now your own task, as told above.")
    return "\n".join(line for line in lines if line)


def without(trajectory: Trajectory, text: str) -> Trajectory:
    """An episode as if its prompt had not ended with `text`: for agents that act without. Its log-probs, of
    the longer prompt, are left out."""
    if not text:
        return trajectory
    turns = tuple(replace(turn, log_probs=None, discarded_tokens=0) for turn in trajectory.turns)
    return replace(trajectory, messages=unmark(trajectory.messages, text), turns=turns)


def _means(episodes: Sequence[Trajectory]) -> dict[str, float]:
    rewards: dict[str, list[float]] = {}
    for each in episodes:
        rewards.setdefault(each.task.id, []).append(each.reward)
    return {task_id: sum(given) / len(given) for task_id, given in rewards.items()}
