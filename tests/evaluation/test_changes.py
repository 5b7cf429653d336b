"""What changed between two agents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eto.evaluation.changes import changes
from eto.types import Message, StopReason, Task, Trajectory, Turn


def episode(number: int, reward: float, success: bool | None = None, sample: int = 0) -> Trajectory:
    task = Task(f"toy/find/{number}", "toy", "find", "test")
    prompt, turns = (Message("user", "go"),), (Turn("look", "a room"),)
    return Trajectory(task, prompt, turns, reward, success, StopReason.TERMINATED, "sft", sample)


def numbers(group) -> list[int]:
    return [int(change.after.task.id.rsplit("/", 1)[1]) for change in group]


def test_success_decides_where_both_tell() -> None:
    before = [episode(0, 0.9, False), episode(1, 1, True), episode(2, 1, True), episode(3, 0.2, False)]
    after = [episode(0, 1, True), episode(1, 0.8, False), episode(2, 1, True), episode(3, 0.9, False)]
    found = changes(before, after)
    groups = [numbers(group) for group in (found.gained, found.lost, found.kept, found.missed)]
    assert groups == [[0], [1], [2], [3]], "a higher reward alone solves nothing"


def test_reward_decides_elsewhere_the_widest_difference_first() -> None:
    before = [episode(number, 0.5) for number in range(4)] + [episode(4, 0), episode(5, 0, False)]
    after = [episode(n, reward) for n, reward in enumerate([0.6, 1, 0.5, 0.1, 0, 0.5])]
    found = changes(before, after)
    groups = [numbers(group) for group in (found.gained, found.lost, found.kept, found.missed)]
    assert groups == [[1, 5, 0], [3], [2], [4]]


@pytest.mark.parametrize("side", [0, 1])
def test_failed_episodes_and_tasks_of_one_agent_are_left_out(side: int) -> None:
    whole = [episode(0, 0), episode(1, 0)]
    sides = [list(whole), [episode(0, 1), episode(1, 1)]]
    sides[side][0] = replace(sides[side][0], stop=StopReason.ENVIRONMENT_FAILED)
    assert numbers(changes(*sides).gained) == [1]
    sides[side].pop()
    assert not changes(*sides).gained


def test_samples_of_a_task_are_compared_by_number() -> None:
    before, after = [episode(0, 0), episode(0, 1, sample=1)], [episode(0, 1, sample=1), episode(0, 1)]
    found = changes(before, after)
    assert len(found.gained) == len(found.kept) == 1
