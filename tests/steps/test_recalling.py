"""What is retrieved as text and for cloning, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eto.data.files import write_json
from eto.data.retrieval import ByReturn, Memory, query_vector
from eto.engines.actor import mark
from eto.experiment.lab import Lab
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.watch import Silent
from eto.settings import ExploreSettings
from eto.settings.retrieval import RetrievalSettings
from eto.steps.recalling import addressing_of, demonstration, rehearsal, show, without
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn


def episode(task: str, actions: str, reward: float = 1.0) -> Trajectory:
    turns = tuple(
        Turn(action, f"seen {action}", reward, action_ids=(1,), log_probs=(-1.0,)) for action in actions
    )
    prompt = (Message("system", "Play."), Message("user", f"Find {task}."))
    which = Task(task, "toy", task[:1], "train")
    stop = StopReason.OUT_OF_TURNS
    return Trajectory(which, prompt, turns, reward, None, stop, "sft", tokenizer="of a model")


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


def test_what_was_shown_is_the_same_once_it_is_read_back(tmp_path: Path):
    """In the order of the tasks, in which it was played, and not in that of their ids."""
    recipe = parse_recipe("{name: a, environment: {name: b}}")
    played = [episode(name, "ab") for name in ("pot", "cup")]
    tasks = {"train": [each.task for each in played]}
    memory = Memory([episode("jug", "c")])
    with Run.open(tmp_path / "run", recipe) as run:
        lab = Lab(recipe, run, None, tasks, [], None, None, Silent())
        text = demonstration(memory.trajectories[0], RetrievalSettings().shown_turns)
        for each in played:
            asked = replace(each, messages=mark(each.messages, text))
            run.store.add(Phase.continued("shown-1"), asked)
        with run.stage("shown-1") as stage:
            write_json(stage.directory / "shown.json", {each.task.id: [0] for each in played})
        given = (ByReturn(0.1), played, ExploreSettings(), RetrievalSettings(shown=1), 1.0)
        found, draws = show(lab, memory, *given)
    assert [each.task.id for each in found] == ["pot", "cup"]
    assert [each.messages for each in found] == [each.messages for each in played]
    assert [list(draw.query) for draw in draws] == [list(query_vector(each.messages)) for each in played]


def test_addresses_are_as_the_settings_say():
    assert addressing_of(RetrievalSettings(addressing="return", return_temperature=0.5)) == ByReturn(0.5)
    learned = addressing_of(RetrievalSettings(scale=20.0), seed=3)
    assert learned.scale == 20.0 and learned.weights.shape == (2, 64, 1024)
