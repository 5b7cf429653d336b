"""A memory of all trajectories of all tasks and rounds, and how what is in it is found.

RAMa (arXiv 2110.13241) retrieves from a store that grows with every task. Of a query q and keys k_i an entry
is addressed by

    p(i | q) = softmax_i(score),   score = reward_i / temperature            (return-based)
                                   score = scale * (W_q q) . (W_k k_i)        (learned)

and the latter is learned by REINFORCE: gradient ascent on A log p(i | q), A the standardised reward of what
the entry i was retrieved for. q: words of the task's prompt; k: words of a trajectory's prompt and actions.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eto.data.files import write_atomic
from eto.data.hashed_words import PLACES, action_text, hashed_words
from eto.errors import InputError
from eto.types import Message, Trajectory

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
SIZE = 64
"""Of queries and keys after projection. Paper: 200."""
DECAYS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's."""


class Memory:
    """Trajectories by their place, in the order in which they came; a place never changes."""

    def __init__(self, trajectories: Iterable[Trajectory] = ()) -> None:
        self.trajectories: list[Trajectory] = []
        self._keys: list[Vector] = []
        self._known: set[tuple[object, ...]] = set()
        self.add(trajectories)

    def add(self, trajectories: Iterable[Trajectory]) -> int:
        """Take in what is new, by task id, source and sample; returns how much that was. Left out: failed
        episodes, those without a turn, and the same actions of a task a second time."""
        before = len(self.trajectories)
        for each in sorted(trajectories, key=lambda t: (t.task.id, t.source, t.sample)):
            said = (each.task.id, *(turn.said for turn in each.turns))
            if not each.failed and each.turns and said not in self._known:
                self._known.add(said)
                self.trajectories.append(each)
                self._keys.append(key_vector(each))
        return len(self.trajectories) - before

    def successes(self, least_reward: float, *, but: str | None = None) -> list[int]:
        """Places of trajectories of at least `least_reward`; but: none of the task with this id."""
        return [
            place
            for place, each in enumerate(self.trajectories)
            if each.reward >= least_reward and each.task.id != but
        ]

    def keys(self, places: Sequence[int]) -> Matrix:
        """`[places, PLACES]`."""
        return np.array([self._keys[place] for place in places]).reshape(-1, PLACES)

    def rewards(self, places: Sequence[int]) -> Vector:
        """`[places]`."""
        return np.array([self.trajectories[place].reward for place in places])


class Addressing(Protocol):
    """How entries are scored for a query."""

    def scores(self, query: Vector, memory: Memory, places: Sequence[int]) -> Vector:
        """`[places]`, of which p is the softmax."""
        ...


@dataclass(frozen=True, slots=True)
class ByReturn:
    """Return-based addressing, the paper's baseline: no query, the higher reward the likelier."""

    temperature: float

    def scores(self, query: Vector, memory: Memory, places: Sequence[int]) -> Vector:
        return memory.rewards(places) / self.temperature


@dataclass(frozen=True, slots=True)
class Draw:
    """An entry that was drawn for a query, and what came of it."""

    query: Vector
    places: tuple[int, ...]
    """Those among which it was drawn."""
    place: int
    reward: float
    baseline: float
    """What its reward is held against, such as the mean of the task's episodes."""


class Learned:
    """Learned addressing. Begins as the likeness of words: both projections are the same random one."""

    def __init__(self, scale: float, learning_rate: float, seed: int = 0) -> None:
        projection = np.random.default_rng(seed).normal(0.0, SIZE**-0.5, (SIZE, PLACES))
        self.scale, self.learning_rate = scale, learning_rate
        self.weights = np.stack([projection, projection])
        """`[2, SIZE, PLACES]`: W_q and W_k."""
        self._moments = np.zeros((2, *self.weights.shape))
        self._steps = 0

    def scores(self, query: Vector, memory: Memory, places: Sequence[int]) -> Vector:
        of_query, of_keys = self.weights
        return self.scale * (memory.keys(places) @ of_keys.T) @ (of_query @ query)

    def gradient(self, draw: Draw, memory: Memory) -> Matrix:
        """Of log p(place | query), `[2, SIZE, PLACES]`: with e = onehot - p, and v = e K,
        scale * (W_k v) q^T for W_q and scale * (W_q q) v^T for W_k."""
        of_query, of_keys = self.weights
        error = -softmax(self.scores(draw.query, memory, draw.places))
        error[draw.places.index(draw.place)] += 1.0
        mixed = error @ memory.keys(draw.places)
        return self.scale * np.stack(
            [np.outer(of_keys @ mixed, draw.query), np.outer(of_query @ draw.query, mixed)]
        )

    def learn(self, draws: Sequence[Draw], memory: Memory, batch_size: int = 32) -> None:
        """One pass of REINFORCE over the draws in their order, by Adam; advantages are standardised over all.
        Nothing is learned where all are equal."""
        gains = np.array([draw.reward - draw.baseline for draw in draws])
        spread = float(gains.std()) if len(gains) else 0.0
        if spread < 1e-9:
            return
        advantages = (gains - gains.mean()) / spread
        for start in range(0, len(draws), batch_size):
            batch = range(start, min(start + batch_size, len(draws)))
            total = np.zeros_like(self.weights)
            for number in batch:
                total += advantages[number] * self.gradient(draws[number], memory)
            self._climb(total / len(batch))

    def _climb(self, gradient: Matrix) -> None:
        self._steps += 1
        corrected = []
        for moment, decay, power in zip(self._moments, DECAYS, (gradient, gradient**2), strict=True):
            moment *= decay
            moment += (1 - decay) * power
            corrected.append(moment / (1 - decay**self._steps))
        self.weights = self.weights + self.learning_rate * corrected[0] / (np.sqrt(corrected[1]) + EPSILON)

    def save(self, path: Path) -> None:
        """Write weights and optimiser state to `path`, whole or not at all."""
        file = io.BytesIO()
        np.savez_compressed(file, weights=self.weights, moments=self._moments, steps=np.array(self._steps))
        write_atomic(path, file.getvalue())

    def load(self, path: Path) -> None:
        """Take what `save` wrote. Raises `InputError` where it is damaged."""
        try:
            with np.load(path) as kept:
                self.weights, self._moments = kept["weights"], kept["moments"]
                self._steps = int(kept["steps"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            hint = "restore it from a copy, or delete the stage's directory to learn it again"
            raise InputError(f"is no addressing: {error}", where=str(path), hint=hint) from error


def softmax(scores: Vector) -> Vector:
    """Probabilities, of the same shape."""
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


def draw(
    addressing: Addressing,
    query: Vector,
    memory: Memory,
    places: Sequence[int],
    count: int,
    random: np.random.Generator,
) -> list[int]:
    """Up to `count` different ones of `places`, one after the other by p among those left (Gumbel top-k).
    Raises `InputError` where there is none."""
    if not len(places):
        hint = "give experts, or lower least_reward"
        raise InputError("there is nothing to retrieve", where="memory", hint=hint)
    noisy = addressing.scores(query, memory, places) + random.gumbel(size=len(places))
    return [places[number] for number in np.argsort(-noisy, kind="stable")[:count]]


def query_vector(messages: Sequence[Message]) -> Vector:
    """`[PLACES]`: the words of what a prompt says last, task and first observation."""
    return hashed_words(messages[-1].content, "task")


def key_vector(trajectory: Trajectory) -> Vector:
    """`[PLACES]`: the words of the prompt and those of the actions, half each."""
    actions = hashed_words(" ".join(map(action_text, trajectory.turns)), "action")
    return np.asarray((query_vector(trajectory.messages) + actions) / np.sqrt(2.0))
