"""Exploring: episodes a minute of `eto.rollouts` against two peers, all greedy with one model.

- The reference's way, that of the ETO paper's code: one episode at a time, at each turn the whole
  history through the chat template into transformers' `generate`, and the simulator stepped by its
  own wrapper, which lists the valid actions every time.
- `transformers serve --continuous-batching`, a process of its own, asked by an asynchronous client;
  its episodes are run by `eto.rollouts`, with the same simulators, slots and tasks.

Simulators have started before the clock does, for all; so has the server. eto makes its acting copy
of the weights within the time, as it must after every training. Actions are checked turn by turn: on
the same history as eto, the reference's way must write the same action in fp32, unless its two
likeliest tokens lie closer than 1e-3 where the two part. Simulators word a few observations
differently from one episode to the next; what follows one of those has another history, and the
reference's way is then given eto's.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import eto
from benchmarks.agent import Prepared, prepared
from benchmarks.frame import Outcome, Ratio, alternate, median_ratio, rows
from benchmarks.peers_rollouts import (
    TIE,
    OneByOne,
    WrapperSimulator,
    check_turn,
    same_histories,
)
from benchmarks.served import ServedEngine, check_prompt, server
from eto.engines.actor import Actor
from eto.environments.hosting.pool import EnvironmentPool
from eto.models.dtype import compute_dtype
from eto.settings import RolloutSettings
from eto.tokens.rendering import Renderer
from eto.types import Task, Trajectory

ETO, REFERENCE, SERVE = "eto", "the reference's way", "transformers serve"
Play = Callable[[], tuple[list[Trajectory], float]]
"""Plays once; returns the episodes and how many seconds they took."""


@dataclass(slots=True)
class Contestant:
    """One way of playing; called, it plays once and returns episodes a minute."""

    play: Play
    renderer: Renderer
    episodes: list[Trajectory] = field(default_factory=list)
    """Of the last repetition."""
    tokens: list[float] = field(default_factory=list)
    """Tokens of actions a second, one figure a repetition."""

    def __call__(self) -> float:
        self.episodes, seconds = self.play()
        failed = [f"{t.task.id}: {t.detail}" for t in self.episodes if t.failed]
        if failed:
            raise RuntimeError(f"{len(failed)} episodes failed, the first is {failed[0]}")
        actions = (action for trajectory in self.episodes for action in trajectory.actions)
        self.tokens.append(sum(len(self.renderer.action_ids(action)) for action in actions) / seconds)
        return 60 * len(self.episodes) / seconds


def run(quick: bool) -> Outcome:
    agent = prepared()
    tasks = spread(agent.tasks, 8 if quick else 24)
    few = spread(tasks, 4 if quick else 6)
    settings = RolloutSettings()
    policy = eto.load_learner(agent.model, dtype="float32")
    one_by_one = OneByOne(agent.model, torch.float32, stops(policy))
    with EnvironmentPool(agent.suite) as pool:
        start_simulators(pool, tasks, settings.slots)
        plays = {
            ETO: lambda: explore("float32", agent, tasks, settings, pool),
            REFERENCE: lambda: one_at_a_time(one_by_one, agent, few),
            SERVE: lambda: serve(agent, tasks, settings, pool, policy.renderer),
        }
        if not quick:
            plays |= native(agent, tasks, few, settings, pool, stops(policy))
        contestants = {name: Contestant(play, policy.renderer) for name, play in plays.items()}
        found = alternate(contestants, 1 if quick else 5)
    return Outcome(
        title="Exploring",
        setting=f"SmolLM2-135M cloned on ScienceWorld; {len(tasks)} training tasks of four types, "
        f"{min(settings.slots, len(tasks))} episodes at once for eto and the server, one for the reference's "
        f"way; greedy, up to {settings.max_action_tokens} tokens an action, fp32 where no dtype is named, "
        f"{torch.get_num_threads()} threads.",
        rows=rows(found, "episodes/min")
        + rows({name: contestant.tokens for name, contestant in contestants.items()}, "action tokens/s"),
        ratios=ratios(found),
        same=agreement(one_by_one, contestants, {task.id for task in (few if quick else tasks)}),
        notes=notes(contestants[ETO].episodes, few, quick),
    )


def spread(tasks: Sequence[Task], count: int) -> list[Task]:
    """`count` of `tasks`, evenly spaced."""
    return [tasks[number * len(tasks) // count] for number in range(count)]


def stops(policy: Any) -> list[int]:
    """The tokens that end an action."""
    return sorted(policy.renderer.stops)


def native(
    agent: Prepared,
    tasks: Sequence[Task],
    few: Sequence[Task],
    settings: RolloutSettings,
    pool: Any,
    ends: list[int],
) -> dict[str, Play]:
    """eto and the reference's way in bfloat16; nothing where the processor has no such instructions."""
    dtype = compute_dtype("auto", torch.device("cpu"))
    if dtype == torch.float32:
        return {}
    one_by_one = OneByOne(agent.model, dtype, ends)
    return {
        f"{ETO}, bfloat16": lambda: explore("bfloat16", agent, tasks, settings, pool),
        f"{REFERENCE}, bfloat16": lambda: one_at_a_time(one_by_one, agent, few),
    }


# -- playing ------------------------------------------------------------------------------


def start_simulators(pool: EnvironmentPool, tasks: Sequence[Task], slots: int) -> None:
    """Begin an episode in every slot, so that JVMs run and their classes are loaded."""
    for slot in range(min(slots, len(tasks))):
        pool.reset(slot, tasks[slot])
    waiting = min(slots, len(tasks))
    while waiting:
        waiting -= len(pool.poll())


def explore(
    dtype: str, agent: Prepared, tasks: Sequence[Task], settings: RolloutSettings, pool: EnvironmentPool
) -> tuple[list[Trajectory], float]:
    """As after cloning: a new acting copy of the weights, nothing cached, and no action to guess from but
    those of the experts that were cloned."""
    policy = eto.load_learner(agent.model, dtype=dtype)
    for expert in agent.experts:
        policy.remember(policy.renderer.render(expert))
    return timed_rollouts(lambda: policy.actor("sft"), agent, tasks, settings, pool)


def timed_rollouts(
    make: Callable[[], Actor],
    agent: Prepared,
    tasks: Sequence[Task],
    settings: RolloutSettings,
    pool: EnvironmentPool,
) -> tuple[list[Trajectory], float]:
    begun = time.perf_counter()
    episodes = eto.rollouts(make(), agent.suite, tasks, settings=settings, pool=pool)
    return episodes, time.perf_counter() - begun


def one_at_a_time(player: OneByOne, agent: Prepared, tasks: Sequence[Task]) -> tuple[list[Trajectory], float]:
    prompts = {trajectory.task.id: trajectory.messages for trajectory in agent.explored}
    simulator = WrapperSimulator(agent.suite)
    try:
        begun = time.perf_counter()
        episodes = [player.play(agent.suite, task, prompts[task.id], simulator) for task in tasks]
        return episodes, time.perf_counter() - begun
    finally:
        simulator.close()


def serve(
    agent: Prepared,
    tasks: Sequence[Task],
    settings: RolloutSettings,
    pool: EnvironmentPool,
    renderer: Renderer,
) -> tuple[list[Trajectory], float]:
    """A new server each time: an old one would remember these very episodes."""
    with server(agent.model, "float32", settings.slots) as address:
        engine = ServedEngine(address, agent.model)
        try:
            check_prompt(engine, renderer)
            actor = Actor(engine, engine.renderer, "served")
            return timed_rollouts(lambda: actor, agent, tasks, settings, pool)
        finally:
            engine.stop()


# -- comparing ----------------------------------------------------------------------------


def ratios(found: Mapping[str, Sequence[float]]) -> list[Ratio]:
    made = [
        Ratio("eto / the reference's way, episodes/min", median_ratio(found, ETO, REFERENCE), 10),
        Ratio("eto / transformers serve, episodes/min", median_ratio(found, ETO, SERVE), 2),
    ]
    if f"{ETO}, bfloat16" in found:
        value = median_ratio(found, f"{ETO}, bfloat16", f"{REFERENCE}, bfloat16")
        made.append(Ratio("eto / the reference's way, both bfloat16", value))
    return made


def agreement(one_by_one: OneByOne, contestants: Mapping[str, Contestant], checked: set[str]) -> str:
    """What `Outcome.same` says. Raises AssertionError where the reference's way writes another action."""
    ours = contestants[ETO]
    played = {trajectory.task.id: trajectory for trajectory in ours.episodes}
    parts = []
    confirmed: dict[str, set[int]] = {}
    for name in (REFERENCE, SERVE):
        pairs = [(played[t.task.id], t) for t in contestants[name].episodes]
        same = {a.task.id: [n for n, equal in same_histories(a, b) if equal] for a, b in pairs}
        comparable = sum(1 for a, b in pairs for _ in same_histories(a, b))
        whole = sum(a.actions == b.actions for a, b in pairs)
        parts.append(
            f"eto and {name}, each playing for itself, took equal actions in {whole} of {len(pairs)} "
            f"episodes, and in {sum(map(len, same.values()))} of the {comparable} turns with equal histories"
        )
        if name == REFERENCE:
            confirmed = {task: set(turns) for task, turns in same.items()}
    outcome = Counter(
        found
        for task, trajectory in played.items()
        if task in checked
        for turn in range(len(trajectory.turns))
        if turn not in confirmed.get(task, ())
        for found in check_turn(one_by_one, ours.renderer, trajectory, turn)
    )
    outcome["equal"] += sum(map(len, confirmed.values()))
    turns = outcome["equal"] + outcome["tie"]
    parts.append(
        f"given eto's histories, the reference's way wrote eto's action in {outcome['equal']} of {turns} "
        f"turns of {len(checked)} episodes, and in {outcome['tie']} its two likeliest tokens lay less than "
        f"{TIE} apart where the two parted (in {outcome['own ids']} turns it got eto's token ids, as their "
        "text is encoded otherwise than sampled)"
    )
    return "; ".join(parts) + "."


def notes(ours: Sequence[Trajectory], few: Sequence[Task], quick: bool) -> list[str]:
    chosen = {task.id for task in few}
    part = [len(t.turns) for t in ours if t.task.id in chosen]
    whole = [len(t.turns) for t in ours]
    made = [
        "Simulators are started before the clock for all, the server too, anew at each repetition, so that "
        "it does not remember these episodes. eto copies its weights for acting within the time, and guesses "
        "from the actions of the experts that were cloned, but from no earlier repetition.",
        f"The reference's way plays a fixed {len(few)} of the {len(ours)} tasks, evenly spaced, at each "
        f"repetition ({statistics.mean(part):.1f} turns an episode, all tasks {statistics.mean(whole):.1f}).",
    ]
    if quick:
        made.append("The quick run leaves bfloat16 out.")
    return made
