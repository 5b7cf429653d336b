"""TextWorldExpress (Jansen & Cote 2022, arXiv:2208.01174): eight small, fast text games.

Deterministic by seed, except for the solutions of `twc` and `coin`. Needs Java.
"""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any, Literal

from eto.environments.hosting.java import Seat, SharedJvm, gateway_text, require_package
from eto.environments.textworld_express.prompts import instruction, thoughts
from eto.environments.toolkit.answers import spoken_action
from eto.environments.toolkit.options import check_types
from eto.environments.toolkit.prompts import Length, Style, in_style
from eto.environments.toolkit.scoring import clipped
from eto.environments.toolkit.suite import EpisodeEnvironment, Suite, options_of
from eto.errors import InputError
from eto.protocols import Step
from eto.types import Message, Task

# Game -> (parameters of a small version, turn cap for it). The simulator's solutions of
# these versions fit into the caps.
GAMES: dict[str, tuple[str, int]] = {
    "arithmetic": ("", 10),
    "coin": ("numLocations=3,includeDoors=0", 20),
    "cookingworld": ("numLocations=1,numIngredients=2,numDistractorItems=2,includeDoors=0", 25),
    "mapreader": ("numLocations=6,maxDistanceApart=2", 15),
    "peckingorder": ("", 12),
    "simonsays": ("gameLength=4,numDistractors=2", 8),
    "sorting": ("", 15),
    "twc": ("numLocations=1,numItemsToPutAway=1,includeDoors=0,limitInventorySize=0", 10),
}
OWN_PARAMS_TURNS = 50
"""Turn cap where the user sets a game's parameters but no cap."""

FIRST_SEED = {"train": 0, "dev": 10_000, "test": 20_000}
"""The simulator's folds: a thousand seeds from these on."""
SEEDS_PER_FOLD = 1000


class TextWorldExpress(Suite):
    """Task suite over the seeds of one game.

    game: one of `GAMES`. params: the game's parameters as `name=value,name=value`; None
        for a small version. tasks_per_split: seeds used of each fold, at most 1,000.
    max_turns: turn cap; None for the game's.
    reward: "best" score so far or "final" score, clipped to [0, 1]: a failure's -1 is 0.
    style, prompt: "act" or "react" answers; "short" or "long" instruction.
    heap_mb, recycle_after: heap cap of a JVM, and its number of episodes. All environments
        of a process share one, except for `sorting`, where each has its own.

    Raises `InputError` for a bad option, `MissingRequirement` without the package.
    """

    name = "textworld-express"

    def __init__(
        self,
        game: str = "simonsays",
        params: str | None = None,
        tasks_per_split: int = 100,
        max_turns: int | None = None,
        reward: Literal["best", "final"] = "best",
        style: Style = "act",
        prompt: Length = "short",
        heap_mb: int = 256,
        recycle_after: int = 2000,
    ) -> None:
        self._options = options_of(locals())
        check_types(TextWorldExpress, self._options, self.name)
        _check_limits(self._options)
        if game not in GAMES:
            hint = f"known ones: {', '.join(GAMES)}"
            raise InputError(f"unknown game {game!r}", where=f"{self.name}.game", hint=hint)
        small, cap = GAMES[game]
        self.game, self.params = game, small if params is None else params
        self._tasks_per_split, self._reward = tasks_per_split, reward
        self.style, self._instruction = style, instruction(game, style, prompt)
        self._max_turns = max_turns or (cap if params is None else OWN_PARAMS_TURNS)
        jar = require_package("textworld_express", "textworld-express") / "textworld-express.jar"
        self._new_jvms = partial(SharedJvm, jar, heap_mb, recycle_after)
        self._jvms = self._new_jvms()

    def tasks(self, split: str) -> list[Task]:
        """The first `tasks_per_split` seeds of a fold. Needs no Java."""
        self._check_split(split)
        tasks = []
        for number in range(self._tasks_per_split):
            payload = {"game": self.game, "params": self.params, "seed": FIRST_SEED[split] + number}
            identity = f"{self.name}/{self.game}/{split}/{number}"
            tasks.append(Task(identity, self.name, self.game, split, payload))
        return tasks

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        return Message("system", self._instruction), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._max_turns

    def environment(self) -> TextWorldExpressEnvironment:
        # Two simulators in one JVM share the objects of a "sorting" task they both play.
        jvms = self._new_jvms() if self.game == "sorting" else self._jvms
        return TextWorldExpressEnvironment(jvms, self._reward, self.style)

    def expert_actions(self, task: Task, environment: Any) -> list[str] | None:
        """The simulator's solution, without asking first for what the prompt states."""
        actions = environment.solution(task)
        while actions and actions[0] in ("look around", "task"):
            del actions[0]
        return in_style(self.style, actions, thoughts(self.game)) or None


class TextWorldExpressEnvironment(EpisodeEnvironment):
    """One simulator inside a shared JVM; one episode at a time."""

    def __init__(self, jvms: SharedJvm, reward: str, style: str) -> None:
        self._seat = Seat(jvms, "textworldexpress.runtime.PythonInterface")
        self._reward_rule, self._style = reward, style
        self._loaded: tuple[str, str] | None = None
        self._best = 0.0
        self._valid: list[str] = []

    def reset(self, task: Task) -> str:
        """The task's text and the first look around. Raises `InputError` for bad parameters."""
        state = self._new_game(task, solution=False)
        with self._seat.calls("reset"):
            text = self._seat.server.getTaskDescription()
        self._best = 0.0
        self._last = self._step_from(state)
        return f"{text.strip()}\n{self._last.observation}"

    def _act(self, action: str) -> Step:
        with self._seat.calls("step"):
            text = gateway_text(spoken_action(action, self._style))
            state = json.loads(self._seat.server.stepJSON(text))
        return self._step_from(state)

    def solution(self, task: Task) -> list[str]:
        """The simulator's solution of `task`; starts it again, `reset` must follow."""
        self._new_game(task, solution=True)
        with self._seat.calls("solution"):
            return [str(action) for action in self._seat.server.getGoldActionSequence()]

    def valid_actions(self) -> list[str]:
        """What can be done now."""
        return sorted(self._valid)

    def close(self) -> None:
        self._last = None
        self._seat.close()

    def _new_game(self, task: Task, solution: bool) -> dict[str, Any]:
        self._last = None
        if self._seat.begin():
            self._loaded = None
        game = (task.payload["game"], task.payload["params"])
        with self._seat.calls("load"):
            if game != self._loaded:
                if problem := self._seat.server.load(*game):
                    raise InputError(
                        problem.strip(), where="textworld-express.params", hint="see the message"
                    )
                self._loaded = game
            state = self._seat.server.generateNewGameJSON(task.payload["seed"], task.split, solution)
        return json.loads(state)

    def _step_from(self, state: dict[str, Any]) -> Step:
        score, success = float(state["score"]), bool(state["tasksuccess"])
        self._valid = list(state.get("validActions", ()))
        reward = clipped(score)
        self._best = max(self._best, reward)
        return Step(
            observation=state["observation"].strip(),
            reward=self._best if self._reward_rule == "best" else reward,
            terminated=success or bool(state["taskfailure"]),
            success=success,
            score=score,
        )


def _check_limits(options: dict[str, Any]) -> None:
    limits = {"tasks_per_split": (1, SEEDS_PER_FOLD), "max_turns": (1, math.inf), "heap_mb": (64, math.inf)}
    for name, (least, most) in (limits | {"recycle_after": (1, math.inf)}).items():
        if options[name] is not None and not least <= options[name] <= most:
            hint = f"at least {least}" + (f", at most {most}" if most < math.inf else "")
            raise InputError(f"{name} is {options[name]}", where=f"textworld-express.{name}", hint=hint)
