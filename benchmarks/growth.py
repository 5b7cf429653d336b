"""How costs grow: with the turns of a conversation, the length of a pair, the slots, the tasks of a run.

Four curves, drawn beside the figures:

- a turn of 8 sampled tokens after an observation of about 40, from the first to the 80th;
- forward and backward pass of DPO over always the same number of tokens, in short pairs or in long ones;
- sampled tokens a second with 1 to 32 conversations at once, a finished one replaced by the next;
- seconds a task of playing ScienceWorld with 8 slots, the start of the simulators included.

And a check: greedy actions in fp32 are the same with 1 slot as with 8.
"""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch

import eto
from benchmarks.agent import Prepared, prepared
from benchmarks.conversations import PROMPT, Script, observation, pair_tree, play
from benchmarks.frame import RESULTS, Outcome, Ratio, Row, alternate, median_ratio, rows
from eto.losses.preference import dpo_loss
from eto.models.dtype import weights_in
from eto.settings import RolloutSettings
from eto.tokens.prefix_tree import Tree
from eto.training.learner import Learner
from eto.training.log_probs import TreeLogProbs
from eto.types import Turn

ACTION_TOKENS = 8
SLOTS = 8
NEIGHBOURS = 2
"""A turn's figure is the median over it and so many turns on either side."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    turns: int
    shown: tuple[int, ...]
    """Turns that get a row, from 1."""
    lengths: tuple[int, ...]
    """Tokens of a pair."""
    pass_tokens: int
    """Tokens of a forward and backward pass, whatever the pairs' length."""
    slots: tuple[int, ...]
    tasks: tuple[int, ...]
    compared: int
    """Conversations whose actions are compared."""
    repetitions: tuple[int, int, int]
    """Of pairs, slots, tasks."""


FULL = Sizes(
    turns=80,
    shown=(1, 2, 10, 20, 40, 80),
    lengths=(128, 256, 512, 1024, 2048),
    pass_tokens=2048,
    slots=(1, 2, 4, 8, 16, 32),
    tasks=(8, 16, 32),
    compared=8,
    repetitions=(5, 5, 5),
)
QUICK = Sizes(6, (1, 2, 6), (128, 512), 512, (1, 8), (2, 4), 3, (1, 1, 1))


@dataclass(frozen=True, slots=True)
class Curve:
    """One plot."""

    name: str
    across: str
    up: str
    points: Sequence[tuple[float, float]]


def run(quick: bool) -> Outcome:
    sizes = QUICK if quick else FULL
    ready = prepared()
    storyteller = eto.load_learner("embedded", drafting=False)
    outcome = Outcome(
        title="How costs grow",
        setting=f"SmolLM2-135M in {storyteller.dtype}, {torch.get_num_threads()} threads. Turns: {SLOTS} "
        f"conversations side by side, medians over up to {2 * NEIGHBOURS + 1} neighbouring turns. Pairs: "
        f"{sizes.pass_tokens} tokens a pass. Slots: actions of {ACTION_TOKENS} tokens. Tasks: {SLOTS} slots.",
        same=check_slots(ready, sizes.compared),
        notes=["None of these has a target: the curves show where a cost per unit stops being constant."],
    )
    curves = [
        add_turns(outcome, storyteller, sizes),
        add_slots(outcome, storyteller, sizes),
        add_pairs(outcome, storyteller, sizes),
        add_tasks(outcome, ready, sizes),
    ]
    if not quick:
        outcome.pictures = [draw(curve) for curve in curves]
    return outcome


# -- turns --------------------------------------------------------------------------------


def add_turns(outcome: Outcome, policy: Learner, sizes: Sizes) -> Curve:
    seconds, tokens = seconds_of_turns(policy, sizes.turns, SLOTS)
    for turn in sizes.shown:
        near = seconds[max(0, turn - 1 - NEIGHBOURS) : turn + NEIGHBOURS]
        figures = [1000 * each / SLOTS for each in near]
        outcome.rows.append(
            Row(f"turn {turn}", "ms", median(figures), min(figures), max(figures), len(figures))
        )
    first, last = outcome.rows[0], outcome.rows[-1]
    outcome.ratios.append(
        Ratio(f"time, {last.contestant} over {first.contestant}", last.median / first.median)
    )
    outcome.notes.append(f"Actions of the turns have {tokens / sizes.turns / SLOTS:.1f} tokens on average.")
    points = [(turn, each / seconds[0]) for turn, each in enumerate(seconds, 1)]
    return Curve("turns", "turn", "time of the turn, first turn = 1", points)


def seconds_of_turns(policy: Learner, turns: int, count: int) -> tuple[list[float], int]:
    """Wall seconds of each turn of `count` conversations together, and the tokens sampled in all."""
    actor, words = policy.actor("storyteller"), random.Random(0)
    sampling = actor.sampling(ACTION_TOKENS)

    async def play_turns() -> tuple[list[float], int]:
        dialogues = [actor.dialogue(PROMPT, room=ACTION_TOKENS) for _ in range(count)]
        seconds, tokens = [], 0
        written: list[Turn] = []
        for _ in range(turns):
            seen = [observation(words) for _ in written]
            begun = time.perf_counter()
            for dialogue, turn, text in zip(dialogues, written, seen, strict=False):
                dialogue.hear(replace(turn, observation=text))
            written = await asyncio.gather(*(dialogue.act(sampling) for dialogue in dialogues))
            seconds.append(time.perf_counter() - begun)
            tokens += sum(len(turn.action_ids) for turn in written)
        for dialogue in dialogues:
            await dialogue.close()
        return seconds, tokens

    return asyncio.run(play_turns())


# -- slots --------------------------------------------------------------------------------


def add_slots(outcome: Outcome, policy: Learner, sizes: Sizes) -> Curve:
    words = random.Random(1)
    scripts = [Script(PROMPT, [observation(words)]) for _ in range(max(sizes.slots))]

    def rate(slots: int) -> float:
        begun = time.perf_counter()
        actions = play(policy, scripts[: max(slots, SLOTS)], slots, ACTION_TOKENS)
        return sum(len(action) for each in actions for action in each) / (time.perf_counter() - begun)

    found = alternate(
        {f"slots {slots}": lambda slots=slots: rate(slots) for slots in sizes.slots}, sizes.repetitions[1]
    )
    add_rows(outcome, found, "tokens/s")
    return Curve("slots", "conversations at once", "sampled tokens/s", medians(sizes.slots, found))


def check_slots(ready: Prepared, count: int, turns: int = 3) -> str:
    """Raises AssertionError where an action depends on who plays beside it, in fp32."""
    policy = eto.load_learner(ready.model, dtype="float32")
    spread = [ready.experts[number * len(ready.experts) // count] for number in range(count)]
    scripts = [Script(e.messages, [turn.observation for turn in e.turns[: turns - 1]]) for e in spread]
    alone, together = play(policy, scripts, 1, 16), play(policy, scripts, SLOTS, 16)
    for expert, one, other in zip(spread, alone, together, strict=True):
        if one != other:
            raise AssertionError(f"{expert.task.id}: actions {one} with 1 slot, {other} with {SLOTS}")
    return (
        f"greedy fp32 actions of {count} tasks ({sum(map(len, alone))} turns, the observations those of an "
        f"expert) are equal token by token with 1 slot and with {SLOTS}."
    )


# -- pairs --------------------------------------------------------------------------------


def add_pairs(outcome: Outcome, policy: Learner, sizes: Sizes) -> Curve:
    scorer = TreeLogProbs(weights_in(copy.deepcopy(policy.model), policy.dtype))
    trees = {
        length: [pair_tree(policy, length, number) for number in range(max(1, sizes.pass_tokens // length))]
        for length in sizes.lengths
    }
    found = alternate(
        {
            f"pair of {length} tokens": lambda part=part: ms_a_token(scorer, part)
            for length, part in trees.items()
        },
        sizes.repetitions[0],
    )
    add_rows(outcome, found, "ms/token")
    base = median(next(iter(found.values())))
    points = [(length, figure / base) for length, figure in medians(sizes.lengths, found)]
    return Curve("pairs", "tokens of a pair", "time a token, shortest pair = 1", points)


def ms_a_token(scorer: TreeLogProbs, trees: Sequence[Tree]) -> float:
    """Forward and backward pass of the DPO loss, milliseconds a tree token."""
    begun = time.perf_counter()
    losses = [dpo_loss(chosen.sum() - rejected.sum(), 0.1) for chosen, rejected in scorer(trees)]
    torch.stack(losses).mean().backward()
    return 1000 * (time.perf_counter() - begun) / sum(len(tree) for tree in trees)


# -- tasks --------------------------------------------------------------------------------


def add_tasks(outcome: Outcome, ready: Prepared, sizes: Sizes) -> Curve:
    agent = eto.load_learner(ready.model).actor("sft")

    def seconds_a_task(count: int) -> float:
        tasks = [ready.tasks[number * len(ready.tasks) // count] for number in range(count)]
        begun = time.perf_counter()
        played = eto.rollouts(agent, ready.suite, tasks, settings=RolloutSettings(slots=SLOTS))
        seconds = time.perf_counter() - begun
        if failed := [trajectory.detail for trajectory in played if trajectory.failed]:
            raise RuntimeError(f"{len(failed)} episodes failed: {failed[0]}")
        return seconds / count

    found = alternate(
        {f"run of {count} tasks": lambda count=count: seconds_a_task(count) for count in sizes.tasks},
        sizes.repetitions[2],
    )
    add_rows(outcome, found, "s/task")
    return Curve("tasks", "tasks of a run", "seconds a task", medians(sizes.tasks, found))


# -- rows and pictures --------------------------------------------------------------------


def add_rows(outcome: Outcome, found: Mapping[str, Sequence[float]], unit: str) -> None:
    """Rows of one curve, and the ratio of its last figure to its first."""
    first, *_, last = found
    outcome.rows += rows(found, unit)
    outcome.ratios.append(Ratio(f"{unit}, {last} over {first}", median_ratio(found, last, first)))


def medians(across: Sequence[int], found: Mapping[str, Sequence[float]]) -> list[tuple[float, float]]:
    return [(at, median(figures)) for at, figures in zip(across, found.values(), strict=True)]


def draw(curve: Curve) -> str:
    """Write `growth-<name>.png` beside the results; returns its name."""
    from matplotlib.figure import Figure  # a bare Figure draws with Agg: no display, no global state

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*curve.points, strict=True), marker="o", markersize=3)
    axes.set(xlabel=curve.across, ylabel=curve.up, ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    name = f"growth-{curve.name}.png"
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / name, dpi=110)
    return name
