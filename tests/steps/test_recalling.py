"""What is retrieved as text and for cloning, by hand."""

from __future__ import annotations

from dataclasses import replace

from eto.data.retrieval import ByReturn, Memory
from eto.engines.actor import mark
from eto.settings.retrieval import RetrievalSettings
from eto.steps.recalling import addressing_of, demonstration, rehearsal, without
from eto.types import Message, StopReason, Task, Trajectory, Turn


def episode(task: str, actions: str, reward: float = 1.0) -> Trajectory:
    turns = tuple(Turn(action, f"seen {action}", reward, log_probs=(-1.0,)) for action in actions)
    prompt = (Message("system", "Play."), Message("user", f"Find {task}."))
    which = Task(task, "toy", task[:1], "train")
    return Trajectory(which, prompt, turns, reward, None, StopReason.OUT_OF_TURNS, "sft")


def test_a_demonstration_is_a_trajectory_in_words():
    text = demonstration(episode("cup", "abc"), 2)
    assert text.splitlines()[1:-1] == ["Find cup.", "> a", "seen a", "> b", "seen b"]
    silent = replace(episode("cup", "a"), turns=(Turn("a", ""),))
    assert demonstration(silent, 9).splitlines()[1:-1] == ["Find cup.", "> a"]


def test_an_episode_is_kept_as_if_nothing_had_been_shown():
    plain = episode("cup", "ab")
    shown = replace(plain, messages=mark(plain.messages, "An example."))
    kept = without(shown, "An example.")
    assert kept.messages == plain.messages and kept.actions == plain.actions
    assert [turn.log_probs for turn in kept.turns] == [None, None], "they were of another prompt"
    assert without(plain, "") is plain


def test_what_is_rehearsed():
    memory = Memory([episode("cup", "a"), episode("pot", "b"), episode("pan", "c", 0.3)])
    prompts = {name: episode(name, "x").messages for name in ("cup", "jug")}
    addressing = ByReturn(0.1)
    found = rehearsal(memory, addressing, prompts, 2, 1.0, (0, 1))
    assert [each.task.id for each in found] == ["cup", "pot"], "each once, no failure"
    assert len(rehearsal(memory, addressing, prompts, 1, 0.2, (0, 1))) in (1, 2)
    assert rehearsal(memory, addressing, prompts, 0, 1.0, (0, 1)) == []
    assert rehearsal(Memory(), addressing, prompts, 2, 1.0, (0, 1)) == []


def test_addresses_are_as_the_settings_say():
    assert addressing_of(RetrievalSettings(addressing="return", return_temperature=0.5)) == ByReturn(0.5)
    learned = addressing_of(RetrievalSettings(scale=20.0), seed=3)
    assert learned.scale == 20.0 and learned.weights.shape == (2, 64, 1024)
