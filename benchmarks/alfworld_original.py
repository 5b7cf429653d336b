"""ALFWorld's own engine, to compare with: `pip install 'eto-agent[alfworld]'`, which compiles C++.

`python -m benchmarks.alfworld_original --record FILE [--data DIR_OR_FILE]` writes what it answers to
random play over generated games (and those of `data`), a digest a turn; the tests hold our engine to them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.environments.alfworld.files import open_games
from eto.environments.alfworld.games import KINDS, Game
from eto.environments.alfworld.generated import generate_game
from eto.environments.alfworld.scenes import wheel_directory

TURNS = 40
NONSENSE = ("dance", "go to moon 1", "take", " look ", "LOOK", "go to drawer 1", "examine drawer 1")
BUSY = ("take", "put", "move", "heat", "cool", "clean", "slice", "use", "open")


@dataclass(frozen=True, slots=True)
class Seen:
    """What an engine shows after a reset or a command."""

    observation: str
    commands: Sequence[str]
    """Admissible ones."""
    won: bool

    def digest(self) -> str:
        text = json.dumps([self.observation, list(self.commands), self.won])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class Original:
    """One game in TextWorld's PDDL engine, with ALFWorld's names."""

    def __init__(self, game: Game, dialect: str) -> None:
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld import EnvInfos
        from textworld.envs.pddl import PddlEnv

        with kept_arguments():
            infos = EnvInfos(feedback=True, admissible_commands=True, won=True)
            self._environment = AlfredDemangler(PddlEnv(infos))
            self._environment.load({**logic(dialect, game.task), "pddl_problem": game.problem})

    def reset(self) -> Seen:
        with kept_arguments():
            return _seen(self._environment.reset())

    def step(self, command: str) -> Seen:
        return _seen(self._environment.step(command)[0])


def _seen(state: Any) -> Seen:
    return Seen(state.feedback, state["admissible_commands"], bool(state["won"]))


@contextmanager
def kept_arguments() -> Iterator[None]:
    """fast-downward writes its own command line over the process's."""
    kept = list(sys.argv)
    try:
        yield
    finally:
        sys.argv = kept


def logic(dialect: str, task: str) -> dict[str, str]:
    """Domain and grammar of the wheel, the latter turned back into the papers' dialect for `put`."""
    folder = wheel_directory() / "data"
    domain = (folder / "alfred.pddl").read_text(encoding="utf-8")
    grammar = (folder / "alfred.twl2").read_text(encoding="utf-8")
    if dialect == "put":
        for new, old in (
            ('"move {o} to {r}"', '"put {o} in/on {r}"'),
            ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
            ("You arrive at {r.name}.", "You arrive at {lend.name}."),
        ):
            grammar = grammar.replace(new, old)
        grammar = grammar[: grammar.index("action help {")]
        domain = domain[: domain.index("(:action help")] + ")\n"
    return {"pddl_domain": domain, "grammar": grammar.replace("UNKNOWN GOAL", task)}


def wander(
    name: str, reset: Callable[[], Seen], step: Callable[[str], Seen], turns: int = TURNS
) -> list[Seen]:
    """Random play, the same for the same name while the engines agree: mostly what changes something."""
    draw, seen = random.Random(name), [reset()]
    for _ in range(turns):
        commands = seen[-1].commands
        busy = [command for command in commands if command.split()[0] in BUSY]
        command = draw.choice(busy if busy and draw.random() < 0.6 else commands)
        if draw.random() < 0.05:
            command = draw.choice(NONSENSE)
        seen.append(step(command))
    return seen


def recorded_games(data: str | None, each: int = 2) -> Iterator[tuple[str, str, Game]]:
    """Name, dialect and game of what is recorded: generated ones, and every seventeenth of `data`."""
    for number in range(each):
        for dialect in ("move", "put"):
            for kind in KINDS:
                size = (6, 5) if number % 2 else (12, 15)
                game = generate_game(kind, "train", number, seed=0, receptacles=size[0], objects=size[1])
                yield f"generated/{dialect}/{kind}/{number}", dialect, game
    if data is not None:
        games = open_games(data)
        names = sorted(name for split in ("train", "dev", "test") for name, _ in games.names(split))
        for position, name in enumerate(names[::17]):
            dialect = ("move", "put")[position % 2]
            yield f"{dialect}/{name}", dialect, games.game(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--data")
    given = parser.parse_args()
    found = {}
    for name, dialect, game in recorded_games(given.data):
        original = Original(game, dialect)
        found[name] = " ".join(seen.digest() for seen in wander(name, original.reset, original.step))
        print(name, flush=True)
        given.record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
