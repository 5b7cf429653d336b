"""ALFWorld: steps a second and seconds to begin a game, against its own engine (TextWorld's PDDL engine).

Both play the same random commands in the same generated games; every text, every list of admissible
commands and every win is compared. The original always lists the admissible commands; eto's step is
measured with that list and without, as an agent that is not shown it needs none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.alfworld_original import Original, Seen, recorded_games, wander
from benchmarks.frame import Outcome, Ratio, Row, alternate, median_ratio, rows
from eto.environments import load_suite
from eto.environments.alfworld.dialect import DIALECTS
from eto.environments.alfworld.games import Game
from eto.environments.alfworld.house import House, Play
from eto.environments.alfworld.problem import parse_problem

ETO, ALONE, ORIGINAL = "eto, with commands", "eto", "alfworld"
TARGET = 10.0
EXPERT_GAMES = 50


class Ours:
    """The same, in our engine; without the list of commands where that is not asked for."""

    def __init__(self, game: Game, dialect: str, lists: bool = True) -> None:
        self._game, self._dialect, self._lists = game, DIALECTS[dialect], lists

    def reset(self) -> Seen:
        house = House(parse_problem(self._game.problem, "game"), self._game.task)
        self._play = Play(house, self._dialect)
        return self._seen(self._play.begin())

    def step(self, command: str) -> Seen:
        return self._seen(self._play.step(command))

    def _seen(self, observation: str) -> Seen:
        commands = self._play.commands() if self._lists else ()
        return Seen(observation, commands, self._play.won)


class Timed:
    """Counts the seconds of an engine's resets and steps, and keeps the commands it was given."""

    def __init__(self, engine: Ours | Original) -> None:
        self._engine = engine
        self.commands: list[str] = []
        self.reset_seconds = self.step_seconds = 0.0

    def reset(self) -> Seen:
        begun = time.perf_counter()
        seen = self._engine.reset()
        self.reset_seconds += time.perf_counter() - begun
        return seen

    def step(self, command: str) -> Seen:
        self.commands.append(command)
        begun = time.perf_counter()
        seen = self._engine.step(command)
        self.step_seconds += time.perf_counter() - begun
        return seen


def run(quick: bool) -> Outcome:
    games = list(recorded_games(None, each=1))[: 3 if quick else 12]
    seen: dict[str, list[Seen]] = {}
    begun: dict[str, list[float]] = {}

    def contestant(name: str, make: Callable[[Game, str], Ours | Original]) -> Callable[[], float]:
        def play() -> float:
            seconds = steps = resets = 0.0
            answers: list[Seen] = []
            for label, dialect, game in games:
                timed = Timed(make(game, dialect))
                if name == ALONE:
                    answers.append(timed.reset())
                    answers += [timed.step(command) for command in script[label]]
                else:
                    answers += wander(label, timed.reset, timed.step)
                    script[label] = timed.commands
                seconds, steps = seconds + timed.step_seconds, steps + len(timed.commands)
                resets += timed.reset_seconds
            seen[name] = answers
            begun.setdefault(name, []).append(resets / len(games))
            return steps / seconds

        return play

    script: dict[str, list[str]] = {}
    contestants = {
        ETO: contestant(ETO, Ours),
        ALONE: contestant(ALONE, lambda *each: Ours(*each, lists=False)),
    }
    contestants[ORIGINAL] = contestant(ORIGINAL, Original)
    found = alternate(contestants, 1 if quick else 3)
    same = sum(ours == theirs for ours, theirs in zip(seen[ETO], seen[ORIGINAL], strict=True))
    outcome = Outcome(
        title="ALFWorld",
        setting=f"{len(games)} generated games of all kinds, half of them in each dialect, 12 receptacles "
        "and 15 objects, 40 random commands each, one thread.",
        rows=rows(found, "steps/s") + rows(begun, "s to begin a game") + expert_rows(quick),
        same=f"{same} of {len(seen[ETO])} observations equal to the letter, with the commands and the win.",
    )
    outcome.ratios = [
        Ratio("steps/s, with commands", median_ratio(found, ETO, ORIGINAL), TARGET),
        Ratio("steps/s", median_ratio(found, ALONE, ORIGINAL)),
        Ratio("turns that are equal", same / len(seen[ETO]), 1.0),
    ]
    return outcome


def expert_rows(quick: bool) -> list[Row]:
    """Per cent of generated games the experts win within the turn cap, and their mean number of actions."""
    found = []
    for expert in ("handcoded", "planner"):
        suite = load_suite("alfworld", games=5 if quick else EXPERT_GAMES, expert=expert)
        environment = suite.environment()
        plans = [suite.expert_actions(task, environment) for task in suite.tasks("train")]
        won = [plan for plan in plans if plan]
        share, length = 100 * len(won) / len(plans), sum(map(len, won)) / max(1, len(won))
        found.append(Row(f"{expert} expert", f"% of {len(plans)} games won", share, share, share, 1))
        found.append(Row(f"{expert} expert", "actions, mean", length, length, length, 1))
    return found
