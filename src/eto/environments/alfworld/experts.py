"""Experts that play as one could who reads the observations: they look for things before they take them.

`handcoded` knows only what it has seen. `planner` knows where everything is and goes straight there,
but for a search prefix: it first looks into a few places where the object might be. A plan without one
walks up to a hidden object at once, which nobody can learn from the observations.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from eto.environments.alfworld.dialect import Action, Dialect
from eto.environments.alfworld.games import PREPARING, Game
from eto.environments.alfworld.house import APPLIANCES, House, Play

Move = tuple[str, str]
"""A thought and a command."""


def solve(
    game: Game, house: House, dialect: Dialect, *, expert: str, search_prefix: int
) -> list[Move] | None:
    """Moves of the expert called `handcoded` or `planner`; None where it does not win."""
    play = Play(house, dialect)
    prefix = search_prefix if expert == "planner" else None
    player = _Player(game, play, dialect, prefix)
    moves = list(player.moves())
    return moves if play.won else None


@dataclass(slots=True)
class _Player:
    """One episode of an expert."""

    game: Game
    play: Play
    dialect: Dialect
    prefix: int | None
    """Places to look into before going where the object is; None for one who does not know where."""
    seen: dict[str, list[str]] = field(default_factory=dict)
    """Contents of the receptacles looked into, as they were then."""

    def moves(self) -> Iterator[Move]:
        game, house = self.game, self.play.house
        goal = self._first_of(f"{game.receptacle}type".lower())
        verb = PREPARING.get(game.kind)
        amount = 2 if game.kind == "pick_two_obj_and_place" else 1
        for _ in range(amount):
            thing = yield from self._find(f"{game.thing}type".lower(), goal if amount == 2 else None)
            if thing is None:
                return
            where = next(each for each, held in self.seen.items() if thing in held)
            yield from self._go(where, f"I take the {_kind(game.thing)} from there.")
            name = house.names[thing]
            yield self._do(Action("take", thing, where), f"This is the {_kind(game.thing)} I need.")
            self.seen[where].remove(thing)
            if verb:
                appliance = self._first_of(APPLIANCES[verb][0])
                if appliance is None:
                    return
                yield from self._go(appliance, f"I have to {verb} the {name}.")
                yield self._do(Action(verb, thing, appliance), f"I {verb} the {name} here.")
            if game.lamp:
                yield from self._light(game.lamp)
                return
            if goal is None:
                return
            yield from self._go(goal, f"The {name} belongs there.")
            yield self._do(Action("put", thing, goal), f"I put the {name} down here.")
            self.seen.setdefault(goal, []).append(thing)

    # -- parts of a task ------------------------------------------------------------------

    def _find(self, kind: str, goal: str | None) -> Generator[Move, None, str | None]:
        """Look around until an object of `kind` is seen that does not lie in `goal`; returns it."""
        if (thing := self._seen_thing(kind, goal)) is not None:
            return thing
        places = [each for each in self._places(kind) if each not in self.seen]
        if self.prefix is not None:
            places = self._prefixed(places, kind, goal)
        for place in places:
            yield from self._go(place, f"I look for the {kind.removesuffix('type')}.")
            if (thing := self._seen_thing(kind, goal)) is not None:
                return thing
        return None

    def _light(self, lamp: str) -> Iterator[Move]:
        """Find the lamp and switch it on."""
        thing = yield from self._find(f"{lamp}type".lower(), None)
        if thing is not None:
            where = next(each for each, held in self.seen.items() if thing in held)
            yield from self._go(where, f"The {_kind(lamp)} is there.")
            yield self._do(Action("use", thing), f"I switch the {_kind(lamp)} on.")

    def _go(self, receptacle: str, thought: str) -> Iterator[Move]:
        """Go there, and open what is closed; nothing where one stands there already."""
        play = self.play
        if play.house.place_of[receptacle] != play.place:
            yield self._do(Action("go", receptacle=receptacle), thought)
        if not play.is_open(receptacle):
            name = play.house.names[receptacle]
            yield self._do(Action("open", receptacle=receptacle), f"The {name} is closed.")
        self.seen[receptacle] = play.contents(receptacle)

    def _do(self, action: Action, thought: str) -> Move:
        command = self.dialect.command(action, self.play.house.names)
        self.play.step(command)
        return thought, command

    # -- what it knows --------------------------------------------------------------------

    def _seen_thing(self, kind: str, goal: str | None) -> str | None:
        kinds = self.play.house.kind
        return next(
            (
                thing
                for place, held in self.seen.items()
                if place != goal
                for thing in held
                if kinds.get(thing) == kind
            ),
            None,
        )

    def _places(self, kind: str) -> list[str]:
        """Receptacles in the order first listed, those where such a thing may lie before others."""
        house = self.play.house
        places = sorted(house.place_of)
        return sorted(places, key=lambda each: not house.has("cancontain", house.kind.get(each, ""), kind))

    def _prefixed(self, places: list[str], kind: str, goal: str | None) -> list[str]:
        """A few places without such a thing, then the first that has one."""
        kinds = self.play.house.kind
        having = [
            each
            for each in places
            if each != goal and any(kinds.get(thing) == kind for thing in self.play.contents(each))
        ]
        others = [each for each in places if each not in having]
        return others[: self.prefix] + having[:1]

    def _first_of(self, kind: str) -> str | None:
        house = self.play.house
        return next((each for each in sorted(house.place_of) if house.kind.get(each) == kind), None)


def _kind(name: str) -> str:
    return name.lower()
