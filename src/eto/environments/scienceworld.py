"""ScienceWorld (Wang et al. 2022, arXiv:2203.07540): 30 types of elementary-science tasks.

The simulator is stepped directly. Its Python wrapper's `step` also lists every valid
action, thousands of them, which takes longer than the step itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from eto.environments.answers import spoken_action
from eto.environments.java import Seat, SharedJvm, gateway_text, require_package
from eto.environments.prompts import (
    SCIENCEWORLD_THOUGHTS,
    Length,
    Style,
    check_forms,
    in_style,
    scienceworld_instruction,
)
from eto.environments.scienceworld_kinds import KINDS, known_kinds, needs_circuits, variations
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task

SIMPLIFICATIONS = (
    "easy",
    "teleportAction",
    "selfWateringFlowerPots",
    "openContainers",
    "openDoors",
    "noElectricalAction",
)

_RESET_REFUSED = "The task cannot be reset."
_START = re.compile(r"called the ([^.\n]+)\.")


class ScienceWorld:
    """Task suite over ScienceWorld's official variations. Needs Java.

    kinds: task types; None for the nine short ones, "all" or ["all"] for the 30.
    simplification: "", "easy", or names joined by commas.
    observation_limit: characters kept of an observation, cut at a line end; 0 for all.
    max_turns: one turn cap for all types; None for the paper's, per type.
    reward: "best", the paper's highest score so far, or "final", the score at the end;
        both clipped to [0, 1], and a wrong answer's -100 is 0.
    drop_open_door: leave `open door` out of expert actions where doors are open anyway.
    look_first: let the expert `look around` before it focuses on something in a room it
        has not looked at. The simulator's solution knows what lies there, an agent cannot:
        cloned as it is, it teaches guessing.
    style, prompt: "act" or "react" answers; "short" or "long" instruction.
    heap_mb, recycle_after: heap cap of a JVM, and its number of episodes.

    Raises `InputError` for a bad option, `MissingRequirement` without the package.
    """

    name = "scienceworld"
    splits = ("train", "dev", "test")

    def __init__(
        self,
        kinds: Sequence[str] | str | None = None,
        simplification: str = "easy",
        observation_limit: int = 1000,
        max_turns: int | None = None,
        reward: Literal["best", "final"] = "best",
        drop_open_door: bool = True,
        look_first: bool = True,
        style: Style = "act",
        prompt: Length = "short",
        heap_mb: int = 512,
        recycle_after: int = 1000,
    ) -> None:
        self._options = {
            "kinds": list(known_kinds(kinds)),
            "simplification": simplification,
            "observation_limit": observation_limit,
            "max_turns": max_turns,
            "reward": reward,
            "drop_open_door": drop_open_door,
            "look_first": look_first,
            "style": style,
            "prompt": prompt,
            "heap_mb": heap_mb,
            "recycle_after": recycle_after,
        }
        self.kinds = known_kinds(kinds)
        self.simplification, self._observation_limit = simplification, observation_limit
        self._max_turns, self._reward = max_turns, reward
        self._drop_open_door, self._look_first = drop_open_door, look_first
        self.style, self._prompt = style, prompt
        _check_options(self._options)
        jar = require_package("scienceworld", "scienceworld") / "scienceworld.jar"
        self._jvms = SharedJvm(jar, heap_mb, recycle_after)

    def tasks(self, split: str) -> list[Task]:
        """The official variations of a split, type by type. Needs no Java."""
        if split not in self.splits:
            raise InputError(
                f"unknown split {split!r}", where=self.name, mend=f"one of {', '.join(self.splits)}"
            )
        return [self._task(kind, split, number) for kind in self.kinds for number in variations(kind, split)]

    def _task(self, kind: str, split: str, variation: int) -> Task:
        payload = {"kind": kind, "variation": variation, "simplification": self.simplification}
        return Task(f"{self.name}/{kind}/{variation}", self.name, kind, split, payload)

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        simple = set(self.simplification.split(","))
        circuits = needs_circuits(task.kind) or not {"easy", "noElectricalAction"} & simple
        teleport = bool({"easy", "teleportAction"} & simple)
        instruction = scienceworld_instruction(self.style, self._prompt, teleport, circuits)
        return Message("system", instruction), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return KINDS[task.kind][3] if self._max_turns is None else self._max_turns

    def environment(self) -> ScienceWorldEnvironment:
        return ScienceWorldEnvironment(self._jvms, self._reward, self._observation_limit, self.style)

    def expert_actions(self, task: Task, environment: Any) -> list[str] | None:
        """The simulator's own solution; another one at each call, for it is randomised.

        Not all of them reach 100, and many go on after the end: replay before use.
        """
        actions = environment.solution(task)
        doors_open = {"easy", "openDoors"} & set(task.payload["simplification"].split(","))
        if self._drop_open_door and doors_open:
            actions = [action for action in actions if not action.startswith("open door")]
        if self._look_first:
            actions = look_before_focus(actions)
        return in_style(self.style, actions, SCIENCEWORLD_THOUGHTS) or None

    def spec(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}:ScienceWorld", dict(self._options)


def look_before_focus(actions: Sequence[str]) -> list[str]:
    """`actions` with a `look around` before each `focus on` in a room not looked at since it was entered."""
    looked, careful = False, []
    for action in actions:
        if action.startswith("focus on") and not looked:
            careful.append("look around")
            looked = True
        looked = (looked or action == "look around") and not action.startswith(("go to", "teleport"))
        careful.append(action)
    return careful


class ScienceWorldEnvironment:
    """One simulator inside a shared JVM; one episode at a time.

    Scores replay equally but for rare tasks (circuits, thermometers); the wording of
    observations does not: the simulator shuffles objects of equal rank.
    """

    def __init__(self, jvms: SharedJvm, reward: str, observation_limit: int, style: str) -> None:
        self._seat = Seat(jvms, "scienceworld.runtime.pythonapi.PythonInterface")
        self._reward_rule, self._limit, self._style = reward, observation_limit, style
        self._best = 0.0
        self._last: Step | None = None

    def reset(self, task: Task) -> str:
        """The task's text and the room the agent stands in, which nothing else tells it."""
        self._load(task, solution=False)
        server = self._seat.server
        with self._seat.calls("reset"):
            server.reset()
            # Scores of the previous episode stay until the first action, a free one here.
            look = server.step("look around")
            text = server.getTaskDescription()
        start = _START.search(look)
        if start is None:
            raise EnvironmentFailure(f"no start room in {look[:100]!r}", where=task.id)
        self._best = 0.0
        self._last = self._step_from("")
        return f"{text.strip()}\nYou are in the {start.group(1)}."

    def step(self, action: str) -> Step:
        if self._last is None:
            raise RuntimeError("step before reset")
        if self._last.terminated:
            return replace(self._last, observation="The episode has ended.")
        text = gateway_text(spoken_action(action, self._style))
        if text.lower().startswith("reset"):
            return replace(self._last, observation=_RESET_REFUSED)
        with self._seat.calls("step"):
            observation = self._seat.server.step(text)
        self._last = self._step_from(cut_at_line(observation.strip(), self._limit))
        return self._last

    def solution(self, task: Task) -> list[str]:
        """The simulator's solution of `task`; loads it anew, `reset` must follow."""
        self._load(task, solution=True)
        with self._seat.calls("solution"):
            return [str(action) for action in self._seat.server.getGoldActionSequence()]

    def close(self) -> None:
        self._last = None
        self._seat.close()

    def _load(self, task: Task, solution: bool) -> None:
        self._last = None
        self._seat.begin()
        payload = task.payload
        with self._seat.calls("load"):
            self._seat.server.load(payload["kind"], payload["variation"], payload["simplification"], solution)

    def _step_from(self, observation: str) -> Step:
        with self._seat.calls("score"):
            score = round(100 * self._seat.server.getScore()) / 100
            completed = bool(self._seat.server.getCompleted())
        clipped = min(max(score, 0.0), 1.0)
        self._best = max(self._best, clipped)
        return Step(
            observation=observation,
            reward=self._best if self._reward_rule == "best" else clipped,
            # The simulator leaves an episode open after a wrong answer, scored -100.
            terminated=completed or score < 0,
            success=completed and score >= 1.0,
            score=score,
        )


def cut_at_line(text: str, limit: int) -> str:
    """`text` within `limit` characters, whole lines where there are any; ends on " ..."."""
    if not limit or len(text) <= limit:
        return text
    head = text[: limit - len(" ...") + 1]
    end = head.rfind("\n")
    return (head[:end] if end > 0 else head[:-1]).rstrip() + " ..."


def _check_options(options: dict[str, Any]) -> None:
    names = [name for name in options["simplification"].split(",") if name]
    if bad := [name for name in names if name not in SIMPLIFICATIONS]:
        raise _bad("simplification", f"unknown one, {bad[0]!r}", f"known ones: {', '.join(SIMPLIFICATIONS)}")
    circuits = [kind for kind in options["kinds"] if needs_circuits(kind)]
    if "noElectricalAction" in names and circuits:
        problem = f"{circuits[0]} needs electrical actions"
        raise _bad("simplification", problem, "leave out noElectricalAction or the task type")
    if options["reward"] not in ("best", "final"):
        raise _bad("reward", f"unknown rule {options['reward']!r}", "best or final")
    check_forms(options, "scienceworld")
    limits = {"max_turns": 1, "observation_limit": 0, "heap_mb": 128, "recycle_after": 1}
    for name, least in limits.items():
        if options[name] is not None and options[name] < least:
            raise _bad(name, f"{options[name]} is too small", f"at least {least}")


def _bad(option: str, problem: str, mend: str) -> InputError:
    return InputError(problem, where=f"scienceworld.{option}", mend=mend)
