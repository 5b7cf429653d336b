"""ScienceWorld (Wang et al. 2022, arXiv:2203.07540): 30 types of elementary-science tasks.

The simulator is stepped directly. Its Python wrapper's `step` also lists every valid
action, thousands of them, which takes longer than the step itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from eto.environments.hosting.java import Seat, SharedJvm, gateway_text, require_package
from eto.environments.scienceworld.kinds import (
    EASY,
    KINDS,
    RAISED_CAPS,
    known_kinds,
    needs_circuits,
    simplifications,
    variations,
)
from eto.environments.scienceworld.prompts import THOUGHTS, instruction
from eto.environments.toolkit.answers import spoken_action
from eto.environments.toolkit.options import check_types
from eto.environments.toolkit.prompts import Length, Style, in_style
from eto.environments.toolkit.scoring import clipped
from eto.environments.toolkit.suite import EpisodeEnvironment, Suite, options_of
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task

SOLUTIONS = 2
"""How many solutions of the simulator are tried before a task counts as one without an expert."""
_RESET_REFUSED = "The task cannot be reset."
_START = re.compile(r"called the ([^.\n]+)\.")


class ScienceWorld(Suite):
    """Task suite over ScienceWorld's official variations. Needs Java.

    kinds: task types; None for the nine short ones, "all" or ["all"] for the 30.
    simplification: "", "easy", or others of the simulator's names, joined by commas.
    observation_limit: characters kept of an observation, cut at a line end; 0 for all.
    max_turns: one turn cap for all types; None for the paper's, per type, and more where most of the
        simulator's solutions do not fit in it (`RAISED_CAPS`). A longer expert counts as none.
    reward: "best", the paper's highest score so far, or "final", the score at the end;
        both clipped to [0, 1], and a wrong answer's -100 is 0.
    drop_open_door: leave `open door` out of expert actions where doors are open anyway and the task
        is solved without them.
    look_first: let the expert `look around` before it focuses on something in a room it
        has not looked at. The simulator's solution knows what lies there, an agent cannot:
        cloned as it is, it teaches guessing.
    style, prompt: "act" or "react" answers; "short" or "long" instruction.
    heap_mb, recycle_after: heap cap of a JVM, and its number of episodes.

    Raises `InputError` for a bad option, `MissingRequirement` without the package.
    """

    name = "scienceworld"

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
        self._options = options_of(locals())
        check_types(ScienceWorld, self._options, self.name)
        self.kinds = known_kinds(kinds)
        self._simple = simplifications(simplification, self.kinds)
        self.simplification, self._observation_limit = ",".join(self._simple), observation_limit
        self._options |= {"kinds": list(self.kinds), "simplification": self.simplification}
        self._max_turns, self._reward = max_turns, reward
        self._drop_open_door, self._look_first = drop_open_door, look_first
        self.style, self._prompt = style, prompt
        _check_limits(self._options)
        jar = require_package("scienceworld", "scienceworld") / "scienceworld.jar"
        self._jvms = SharedJvm(jar, heap_mb, recycle_after)

    def tasks(self, split: str) -> list[Task]:
        """The official variations of a split, type by type. Needs no Java."""
        self._check_split(split)
        return [self._task(kind, split, number) for kind in self.kinds for number in variations(kind, split)]

    def _task(self, kind: str, split: str, variation: int) -> Task:
        payload = {"kind": kind, "variation": variation, "simplification": self.simplification}
        return Task(f"{self.name}/{kind}/{variation}", self.name, kind, split, payload)

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        circuits = needs_circuits(task.kind) or not {EASY, "noElectricalAction"} & set(self._simple)
        teleport = bool({EASY, "teleportAction"} & set(self._simple))
        text = instruction(self.style, self._prompt, teleport, circuits)
        return Message("system", text), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._max_turns or RAISED_CAPS.get(task.kind, KINDS[task.kind][3])

    def environment(self) -> ScienceWorldEnvironment:
        return ScienceWorldEnvironment(self._jvms, self._reward, self._observation_limit, self.style)

    def expert_actions(self, task: Task, environment: Any) -> list[str] | None:
        """The first of `expert_candidates`."""
        return next(self.expert_candidates(task, environment), None)

    def expert_candidates(self, task: Task, environment: Any) -> Iterator[list[str]]:
        """Solutions of the simulator, to be tried in this order, each of them in a replay.

        A solution is edited as the options say, then less and less: without open doors or with looks
        around everything happens at another time, and some tasks are about time. The simulator's own
        solutions are randomised, and not all of them reach 100: then another one is asked for. Many go
        on after the end.
        """
        doors_open = {EASY, "openDoors"} & set(task.payload["simplification"].split(","))
        for _ in range(SOLUTIONS):
            solution = environment.solution(task)
            tried: list[list[str]] = []
            for drop, look in ((True, True), (False, True), (False, False)):
                actions = solution
                if drop and self._drop_open_door and doors_open:
                    actions = [action for action in actions if not action.startswith("open door")]
                if look and self._look_first:
                    actions = look_before_focus(actions)
                if actions and actions not in tried:
                    tried.append(actions)
                    yield in_style(self.style, actions, THOUGHTS)


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


class ScienceWorldEnvironment(EpisodeEnvironment):
    """One simulator inside a shared JVM; one episode at a time.

    Scores replay equally except for rare tasks (circuits, thermometers); the wording of
    observations does not: the simulator shuffles objects of equal rank.
    """

    def __init__(self, jvms: SharedJvm, reward: str, observation_limit: int, style: str) -> None:
        self._seat = Seat(jvms, "scienceworld.runtime.pythonapi.PythonInterface")
        self._reward_rule, self._limit, self._style = reward, observation_limit, style
        self._best = 0.0

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

    def _act(self, action: str) -> Step:
        text = gateway_text(spoken_action(action, self._style))
        if text.lower().startswith("reset"):
            return replace(self._before(), observation=_RESET_REFUSED)
        with self._seat.calls("step"):
            observation = self._seat.server.step(text)
        return self._step_from(cut_at_line(observation.strip(), self._limit))

    def solution(self, task: Task) -> list[str]:
        """The simulator's solution of `task`; loads it again, `reset` must follow."""
        self._load(task, solution=True)
        with self._seat.calls("solution"):
            return [str(action) for action in self._seat.server.getGoldActionSequence()]

    def valid_actions(self) -> list[str]:
        """What can be done now, in the simulator's words: some hundreds."""
        with self._seat.calls("valid actions"):
            return sorted(str(each) for each in self._seat.server.getValidActionObjectCombinations())

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
        reward = clipped(score)
        self._best = max(self._best, reward)
        return Step(
            observation=observation,
            reward=self._best if self._reward_rule == "best" else reward,
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


def _check_limits(options: dict[str, Any]) -> None:
    limits = {"max_turns": 1, "observation_limit": 0, "heap_mb": 128, "recycle_after": 1}
    for name, least in limits.items():
        if options[name] is not None and options[name] < least:
            problem = f"{options[name]} is too small"
            raise InputError(problem, where=f"scienceworld.{name}", hint=f"at least {least}")
