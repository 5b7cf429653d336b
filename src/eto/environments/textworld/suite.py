"""TextWorld (Côté et al. 2018, arXiv:1806.11532): text games made by seed, without Java.

The module's namesake, the package `textworld`, is imported when the first game is played.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from eto.environments.hosting.java import require_package
from eto.environments.textworld.games import GameFiles, complete_params, forget, game_files, turn_cap
from eto.environments.toolkit.answers import spoken_action, written_answer
from eto.environments.toolkit.options import check_types
from eto.environments.toolkit.prompts import ONE_ACTION, Length, Style, react_form
from eto.environments.toolkit.scoring import clipped
from eto.environments.toolkit.suite import EpisodeEnvironment, Suite, options_of
from eto.errors import EnvironmentFailure, InputError
from eto.protocols import Step
from eto.types import Message, Task

FIRST_SEED = {"train": 0, "dev": 100_000, "test": 200_000}
SEEDS_PER_SPLIT = 100_000
COMMAND_CHARACTERS = 150
"""Longer commands are cut; the interpreter takes 198 bytes."""
NOT_UNDERSTOOD = "That's not a verb I recognise."
"""What the game says to an unknown verb, and what is said for it to `META` commands."""
META = frozenset(
    "save restore restart quit q script transcript unscript noscript recording replay undo oops o version"
    " verify restrict enable disable".split()
)
"""Commands about the program, not the game: they write files, end it, or change what it prints."""
_LONG = (
    "You play a text game. Its goal is told at the beginning; the score says how near you are. Actions: "
    "look, inventory, goal, go north (south, east, west), examine X, open X, close X, take X, take X from Y, "
    "drop X, put X on Y, insert X into Y, unlock X with Y, lock X with Y, eat X; where food is cooked also "
    "cook X with Y, slice (chop, dice) X with Y, prepare meal. One action a turn."
)
_SHORT = "You play a text game."
_REACT = react_form("what you make of the room", "go north")
INSTRUCTIONS = {
    "act": {"short": _SHORT + ONE_ACTION, "long": _LONG + ONE_ACTION},
    "react": {"short": _SHORT + _REACT, "long": _LONG + _REACT},
}
THOUGHTS = {
    "inventory": "I look at what I carry.",
    "examine": "The {} may say what to do.",
    "go": "My way leads {}.",
    "open": "The {} is closed, so I open it.",
    "unlock": "The {} is locked, and I have the key.",
    "take": "I need the {}.",
    "drop": "I put the {} down for now.",
    "put": "The {} belongs there.",
    "insert": "The {} belongs in there.",
    "cook": "The {} has to be cooked as the recipe says.",
    "slice": "The recipe asks for slices of the {}.",
    "chop": "The recipe asks for the {} to be chopped.",
    "dice": "The recipe asks for the {} to be diced.",
    "prepare": "All ingredients are ready, so the {} can be prepared.",
    "eat": "The {} is ready to eat.",
}
"""A sentence for each kind of action; {} is what it is done to."""

_BANNER = re.compile(r"\A(?:[ \t_|\\/$<>]*\n)+")
_STATUS = re.compile(r"\s*>?\s*-= [^\n]* =-\s*-?\d+/\d+\s*\Z")
_QUESTION = re.compile(r"\s*Would you like to RESTART.*\Z", re.DOTALL)
_BLANK = re.compile(r"\s*\n\s*\n\s*")
_NEXT_COMMAND = re.compile(r"[.,;!\n\r]|\bthen\b", re.IGNORECASE)
_OBJECT_END = re.compile(r" (?:from|with|on|into) ")


class TextWorld(Suite):
    """Task suite over the seeds of one game.

    game: "coin" (find it in a maze), "treasure" (take the right one of two objects), "cooking"
        (by a recipe) or "simple" (bring food to the stove).
    params: the game's parameters, see `eto.environments.textworld.games.GAMES`; None for a small version.
    objective: "steps": the first observation tells all steps to take; "goal": only the last. The text
        of "cooking" is always its goal.
    tasks_per_split: seeds used of each split, at most 100,000.
    max_turns: turn cap; None for one in which the walkthrough fits well.
    reward: "best" or "final" score, over the game's highest.
    style, prompt: "act" or "react" answers; "short" or "long" instruction.

    Raises `InputError` for a bad option, `MissingRequirement` without the package.
    """

    name = "textworld"

    def __init__(
        self,
        game: str = "coin",
        params: Mapping[str, Any] | None = None,
        objective: Literal["steps", "goal"] = "steps",
        tasks_per_split: int = 100,
        max_turns: int | None = None,
        reward: Literal["best", "final"] = "best",
        style: Style = "act",
        prompt: Length = "short",
    ) -> None:
        self._options = options_of(locals())
        check_types(TextWorld, self._options, self.name)
        _check_limits(self._options)
        self.game, self.params = game, complete_params(game, params)
        self.style = style
        self._max_turns = max_turns or turn_cap(game, self.params)
        require_package("textworld", self.name)

    def tasks(self, split: str) -> list[Task]:
        """The first `tasks_per_split` seeds of a split. Makes no game."""
        self._check_split(split)
        game = {"game": self.game, "params": self.params, "objective": self._options["objective"]}
        tasks = []
        for number in range(self._options["tasks_per_split"]):
            payload = game | {"seed": FIRST_SEED[split] + number}
            identity = f"{self.name}/{self.game}/{split}/{number}"
            tasks.append(Task(identity, self.name, self.game, split, payload))
        return tasks

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        instruction = INSTRUCTIONS[self.style][self._options["prompt"]]
        return Message("system", instruction), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._max_turns

    def environment(self) -> TextWorldEnvironment:
        return TextWorldEnvironment(self._options["reward"], self.style)

    def expert_actions(self, task: Task, environment: Any) -> list[str]:
        """The game's walkthrough."""
        actions = game_files(**task.payload).walkthrough()
        if self.style == "act":
            return actions
        return [written_answer(thought(action), action) for action in actions]


class TextWorldEnvironment(EpisodeEnvironment):
    """One interpreter, playing one game at a time."""

    def __init__(self, reward: str, style: str) -> None:
        self._reward_rule, self._style = reward, style
        self._game: Any = None
        self._loaded: GameFiles | None = None
        self._best = 0.0

    def reset(self, task: Task) -> str:
        """The goal and the first room. Raises `EnvironmentFailure`, `MissingRequirement`."""
        self._last = None
        files = game_files(**task.payload)
        if files != self._loaded:
            self.close()
            self._game, self._loaded = _load(files), files
        state = self._call(self._game.reset)
        self._best = 0.0
        self._last = self._step_from(state)
        return self._last.observation

    def _act(self, action: str) -> Step:
        command = game_command(spoken_action(action, self._style))
        first = command.split(" ", 1)[0]
        if first in META or first.startswith("tw-"):
            return replace(self._before(), observation=NOT_UNDERSTOOD)
        state, _, _ = self._call(self._game.step, command)
        return self._step_from(state)

    def close(self) -> None:
        game, self._game, self._loaded, self._last = self._game, None, None, None
        if game is not None:
            game.close()

    def _call(self, method: Any, *arguments: str) -> Any:
        """TextWorld's answer. What its parser stumbles over is the interpreter's fault."""
        try:
            return method(*arguments)
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise EnvironmentFailure(f"the interpreter failed: {error!r}", where=self._story()) from error

    def _story(self) -> str:
        return str(self._loaded.story) if self._loaded else ""

    def _step_from(self, state: Any) -> Step:
        text = state.feedback
        if "Emulator halted" in text or state.score is None:
            raise EnvironmentFailure(f"the interpreter halted: {text[:200]!r}", where=self._story())
        fraction = clipped(state.score / state.max_score)
        self._best = max(self._best, fraction)
        return Step(
            observation=observation_text(text),
            reward=self._best if self._reward_rule == "best" else fraction,
            terminated=bool(state.won or state.lost),
            success=bool(state.won),
            score=float(state.score),
        )


def game_command(action: str) -> str:
    """The one command of an action that is sent to the game.

    The game would take several, set apart by full stops or `then`; only the first is kept. So are only
    the characters of which names are made, in lower case.
    """
    text = _NEXT_COMMAND.split(action.strip(), maxsplit=1)[0].lower()
    return " ".join(re.sub(r"[^a-z0-9'-]+", " ", text)[:COMMAND_CHARACTERS].split())


def observation_text(text: str) -> str:
    """What the game says, without banner, input mark, status line and the question at its end."""
    text = _STATUS.sub("", _BANNER.sub("", text))
    return _BLANK.sub("\n\n", _QUESTION.sub("", text)).strip()


def thought(action: str) -> str:
    """A sentence for an action of a walkthrough."""
    verb, _, rest = action.partition(" ")
    return THOUGHTS.get(verb, "This is the next step.").format(_OBJECT_END.split(rest)[0])


def _load(files: GameFiles) -> Any:
    """The game, ready for `reset`. A damaged file is dropped: the next try makes it again."""
    import textworld

    wanted = textworld.EnvInfos(feedback=True, score=True, max_score=True, won=True, lost=True)
    try:
        game = textworld.start(str(files.story), wanted)
    except (ValueError, KeyError, OSError) as error:
        forget(files)
        raise EnvironmentFailure(f"the game cannot be loaded: {error}", where=str(files.story)) from error
    game.seed(1)  # the interpreter's; the default is the clock
    return game


def _check_limits(options: Mapping[str, Any]) -> None:
    limits = {"tasks_per_split": SEEDS_PER_SPLIT, "max_turns": math.inf}
    for name, most in limits.items():
        if options[name] is not None and not 1 <= options[name] <= most:
            hint = f"1 to {most}" if most < math.inf else "at least 1"
            raise InputError(f"{name} is {options[name]}", where=f"textworld.{name}", hint=hint)
