"""ScienceWorld (Wang et al. 2022, arXiv:2203.07540): 30 types of elementary-science tasks.

The simulator is stepped directly. Its Python wrapper's `step` also lists every valid
action, thousands of them, which takes longer than the step itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from eto.environments.java import Seat, SharedJvm, gateway_text, require_package
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task

# Task type -> (train, dev, test variations, turn cap). Variations are numbered through in
# this order. Caps are those of the ETO paper's code; for the six types it leaves out, a
# cap that the simulator's own solutions fit into ("inclined-plane": nearly all of them).
KINDS: dict[str, tuple[int, int, int, int]] = {
    "boil": (14, 7, 9, 100),
    "change-the-state-of-matter-of": (14, 7, 9, 80),
    "chemistry-mix": (16, 8, 8, 60),
    "chemistry-mix-paint-secondary-color": (18, 9, 9, 15),
    "chemistry-mix-paint-tertiary-color": (18, 9, 9, 30),
    "find-animal": (150, 75, 75, 15),
    "find-living-thing": (150, 75, 75, 15),
    "find-non-living-thing": (150, 75, 75, 15),
    "find-plant": (150, 75, 75, 15),
    "freeze": (14, 7, 9, 80),
    "grow-fruit": (62, 31, 33, 60),
    "grow-plant": (62, 31, 33, 30),
    "identify-life-stages-1": (6, 3, 5, 30),
    "identify-life-stages-2": (4, 2, 4, 30),
    "inclined-plane-determine-angle": (84, 42, 42, 200),
    "inclined-plane-friction-named-surfaces": (692, 346, 348, 200),
    "inclined-plane-friction-unnamed-surfaces": (80, 40, 42, 200),
    "lifespan-longest-lived": (62, 31, 32, 10),
    "lifespan-longest-lived-then-shortest-lived": (62, 31, 32, 12),
    "lifespan-shortest-lived": (62, 31, 32, 10),
    "measure-melting-point-known-substance": (218, 109, 109, 120),
    "measure-melting-point-unknown-substance": (150, 75, 75, 120),
    "melt": (14, 7, 9, 80),
    "mendelian-genetics-known-plant": (60, 30, 30, 150),
    "mendelian-genetics-unknown-plant": (240, 120, 120, 150),
    "power-component": (10, 5, 5, 20),
    "power-component-renewable-vs-nonrenewable-energy": (10, 5, 5, 30),
    "test-conductivity": (450, 225, 225, 30),
    "test-conductivity-of-unknown-substances": (300, 150, 150, 30),
    "use-thermometer": (270, 135, 135, 30),
}

SHORT_KINDS: tuple[str, ...] = (
    "find-plant",
    "find-animal",
    "find-living-thing",
    "find-non-living-thing",
    "lifespan-longest-lived",
    "lifespan-shortest-lived",
    "lifespan-longest-lived-then-shortest-lived",
    "power-component",
    "chemistry-mix-paint-secondary-color",
)
"""The nine types whose whole episodes stay within about 500 tokens; the default."""

SIMPLIFICATIONS = (
    "easy",
    "teleportAction",
    "selfWateringFlowerPots",
    "openContainers",
    "openDoors",
    "noElectricalAction",
)

INSTRUCTION = "You act in a text world. Answer with one action, such as: look around, go to kitchen."
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
        heap_mb: int = 512,
        recycle_after: int = 1000,
    ) -> None:
        self._options = {
            "kinds": list(_known_kinds(kinds)),
            "simplification": simplification,
            "observation_limit": observation_limit,
            "max_turns": max_turns,
            "reward": reward,
            "drop_open_door": drop_open_door,
            "look_first": look_first,
            "heap_mb": heap_mb,
            "recycle_after": recycle_after,
        }
        self.kinds = _known_kinds(kinds)
        self.simplification, self._observation_limit = simplification, observation_limit
        self._max_turns, self._reward = max_turns, reward
        self._drop_open_door, self._look_first = drop_open_door, look_first
        _check_options(self._options)
        jar = require_package("scienceworld", "scienceworld") / "scienceworld.jar"
        self._jvms = SharedJvm(jar, heap_mb, recycle_after)

    def tasks(self, split: str) -> list[Task]:
        """The official variations of a split, type by type. Needs no Java."""
        if split not in self.splits:
            raise InputError(
                f"unknown split {split!r}", where=self.name, mend=f"one of {', '.join(self.splits)}"
            )
        return [self._task(kind, split, number) for kind in self.kinds for number in _variations(kind, split)]

    def _task(self, kind: str, split: str, variation: int) -> Task:
        payload = {"kind": kind, "variation": variation, "simplification": self.simplification}
        return Task(f"{self.name}/{kind}/{variation}", self.name, kind, split, payload)

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        return Message("system", INSTRUCTION), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return KINDS[task.kind][3] if self._max_turns is None else self._max_turns

    def environment(self) -> ScienceWorldEnvironment:
        return ScienceWorldEnvironment(self._jvms, self._reward, self._observation_limit)

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
        return actions or None

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

    def __init__(self, jvms: SharedJvm, reward: str, observation_limit: int) -> None:
        self._seat = Seat(jvms, "scienceworld.runtime.pythonapi.PythonInterface")
        self._reward_rule, self._limit = reward, observation_limit
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
        text = gateway_text(action)
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


def _known_kinds(kinds: Sequence[str] | str | None) -> tuple[str, ...]:
    if kinds is None:
        return SHORT_KINDS
    chosen = [kinds] if isinstance(kinds, str) else list(kinds)
    if chosen == ["all"]:
        return tuple(KINDS)
    for kind in chosen:
        if kind not in KINDS:
            raise _bad("kinds", f"unknown task type {kind!r}", f'known ones: {", ".join(KINDS)}; or "all"')
    if not chosen or len(set(chosen)) < len(chosen):
        problem = "a task type is named twice" if chosen else "no task type"
        raise _bad("kinds", problem, "name each type once, or leave kinds out")
    return tuple(chosen)


def _variations(kind: str, split: str) -> range:
    train, dev, test, _ = KINDS[kind]
    first = {"train": 0, "dev": train, "test": train + dev}[split]
    return range(first, first + {"train": train, "dev": dev, "test": test}[split])


def _check_options(options: dict[str, Any]) -> None:
    names = [name for name in options["simplification"].split(",") if name]
    if bad := [name for name in names if name not in SIMPLIFICATIONS]:
        raise _bad("simplification", f"unknown one, {bad[0]!r}", f"known ones: {', '.join(SIMPLIFICATIONS)}")
    circuits = [kind for kind in options["kinds"] if "power-component" in kind or "conductivity" in kind]
    if "noElectricalAction" in names and circuits:
        problem = f"{circuits[0]} needs electrical actions"
        raise _bad("simplification", problem, "leave out noElectricalAction or the task type")
    if options["reward"] not in ("best", "final"):
        raise _bad("reward", f"unknown rule {options['reward']!r}", "best or final")
    limits = {"max_turns": 1, "observation_limit": 0, "heap_mb": 128, "recycle_after": 1}
    for name, least in limits.items():
        if options[name] is not None and options[name] < least:
            raise _bad(name, f"{options[name]} is too small", f"at least {least}")


def _bad(option: str, problem: str, mend: str) -> InputError:
    return InputError(problem, where=f"scienceworld.{option}", mend=mend)
