"""The memory, and addressing by return and learned: against formulas, finite differences and by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eto.data.retrieval import (
    ByReturn,
    Draw,
    Learned,
    Memory,
    draw,
    key_vector,
    query_vector,
    softmax,
)
from eto.errors import InputError
from eto.types import Message, StopReason, Task, ToolCall, Trajectory, Turn


def episode(task: str, actions: str, reward: float = 1.0, *, sample: int = 0) -> Trajectory:
    turns = tuple(Turn(action, "seen", reward) for action in actions.split())
    which = Task(f"toy/{task}", "toy", task.split()[0], "train")
    prompt = (Message("system", "Play."), Message("user", task))
    return Trajectory(which, prompt, turns, reward, None, StopReason.OUT_OF_TURNS, "sft", sample)


def test_the_memory_keeps_what_is_new():
    memory = Memory([episode("b", "go"), episode("a", "stay", 0.2)])
    broken = replace(episode("c", "go"), stop=StopReason.ENGINE_FAILED)
    again = [episode("b", "go", sample=1), episode("b", "", sample=2), broken, episode("a", "go")]
    assert memory.add(again) == 1
    assert [(t.task.id, t.actions) for t in memory.trajectories] == [
        ("toy/a", ("stay",)),
        ("toy/b", ("go",)),
        ("toy/a", ("go",)),
    ]
    assert memory.successes(0.5) == [1, 2] and memory.successes(0.5, but="toy/a") == [1]
    assert memory.rewards([0, 2]).tolist() == [0.2, 1.0] and memory.keys([]).shape == (0, 1024)
    assert np.allclose(memory.keys([1])[0], key_vector(memory.trajectories[1]))


def test_keys_tell_calls_of_functions_apart():
    [one, other] = (
        replace(episode("a", "go"), turns=(Turn("", "seen", tool_calls=(ToolCall("go", arguments),)),))
        for arguments in ('{"to": "north"}', '{"to": "south"}')
    )
    assert not np.allclose(key_vector(one), key_vector(other))


def test_return_based_addresses():
    memory = Memory([episode("a", "go", 0.0), episode("b", "go", 0.5), episode("c", "go", 1.0)])
    addressing, query = ByReturn(0.5), query_vector(episode("a", "").messages)
    expected = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert softmax(addressing.scores(query, memory, [0, 1, 2])) == pytest.approx(expected)
    random = np.random.default_rng(0)
    counts = Counter(draw(addressing, query, memory, [0, 1, 2], 1, random)[0] for _ in range(4000))
    assert [counts[place] / 4000 for place in range(3)] == pytest.approx(expected, abs=0.03)
    assert sorted(draw(addressing, query, memory, [2, 1], 9, random)) == [1, 2], "each once"
    with pytest.raises(InputError, match="nothing to retrieve"):
        draw(addressing, query, memory, [], 1, random)


def test_learned_addressing_begins_as_likeness():
    memory = Memory([episode("find the plant", "go"), episode("open a door", "go")])
    addressing = Learned(scale=10.0, learning_rate=0.01)
    for text, near in (("find the red plant", 0), ("open the door", 1)):
        scores = addressing.scores(query_vector([Message("user", text)]), memory, [0, 1])
        assert scores.argmax() == near


def test_the_gradient_is_that_of_the_log_probability():
    memory = Memory([episode("find a plant", "go"), episode("open a door", "wait"), episode("a", "b c")])
    addressing = Learned(scale=3.0, learning_rate=0.01, seed=1)
    query = query_vector([Message("user", "find a door")])
    chosen = Draw(query, (2, 0, 1), 0, 1.0, 0.5)
    found = addressing.gradient(chosen, memory)
    before = addressing.weights

    def log_p(weights: np.ndarray) -> float:
        addressing.weights = weights
        return math.log(softmax(addressing.scores(query, memory, chosen.places))[1])

    random = np.random.default_rng(2)
    for _ in range(4):
        direction = random.normal(size=before.shape)
        numeric = (log_p(before + 1e-6 * direction) - log_p(before - 1e-6 * direction)) / 2e-6
        assert numeric == pytest.approx(float((found * direction).sum()), rel=1e-4)


def test_what_was_worth_more_is_addressed_more(tmp_path: Path):
    """Against likeness: for `find`, the trajectory of `open` helps."""
    memory = Memory([episode("find the plant", "go"), episode("open a door", "wait")])
    addressing = Learned(scale=10.0, learning_rate=0.02)
    query = query_vector([Message("user", "find the plant")])

    def share() -> float:
        return float(softmax(addressing.scores(query, memory, [0, 1]))[1])

    assert share() < 0.5
    draws = [Draw(query, (0, 1), place, float(place == 1), 0.5) for place in (0, 1)] * 8
    for _ in range(6):
        addressing.learn(draws, memory)
    assert share() > 0.9
    addressing.save(tmp_path / "addressing.npz")
    other = Learned(scale=10.0, learning_rate=0.02, seed=5)
    other.load(tmp_path / "addressing.npz")
    for each in (addressing, other):
        each.learn(draws[:2], memory)
    assert np.array_equal(other.weights, addressing.weights), "it goes on as if nothing had been"
    same = addressing.weights
    addressing.learn([], memory)
    addressing.learn([replace_reward(each) for each in draws], memory)
    assert addressing.weights is same, "equal rewards teach nothing"
    (tmp_path / "addressing.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match="no addressing"):
        other.load(tmp_path / "addressing.npz")


def replace_reward(each: Draw) -> Draw:
    return replace(each, reward=1.0)
