"""Games of our own, by seed: a room of ALFWorld's wheel, furnished and filled at random.

A room keeps the receptacles the task needs and some others; objects lie where their kind may. No game
is solved at its start, and every one can be solved: what is needed is there, and nothing is locked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from eto.environments.alfworld.games import PREPARING, Game
from eto.environments.alfworld.scenes import Scene, Vocabulary, load_vocabulary

_NEEDED = {"clean": "SinkBasin", "heat": "Microwave", "cool": "Fridge"}
_ABLE = {"clean": "Cleanable", "heat": "Heatable", "cool": "Coolable"}
LAMP = "DeskLamp"
_LAMP_STANDS = ("Desk", "SideTable", "Dresser", "Shelf", "CoffeeTable", "DiningTable")
_MANGLED = {"|": "_bar_", "+": "_plus_", "-": "_minus_", ".": "_dot_"}


@dataclass(slots=True)
class _Room:
    """A room being filled."""

    draw: random.Random
    receptacles: list[tuple[str, str]] = field(default_factory=list)
    lying: list[tuple[str, str, str]] = field(default_factory=list)
    """Type and identifier of each object, and the receptacle it lies in."""

    def lay(self, kind: str, receptacle: str) -> None:
        where = [f"{self.draw.choice('+-')}{self.draw.uniform(0, 3):05.2f}" for _ in range(3)]
        self.lying.append((kind, "|".join([kind, *where]), receptacle))


@cache
def usable_scenes(kind: str, split: str) -> list[tuple[Scene, list[tuple[str, str]]]]:
    """The rooms of a split in which tasks of `kind` are possible, each with its (object, receptacle) types.

    Rooms of the test split are not used by the others.
    """
    vocabulary, usable = load_vocabulary(), []
    for number, scene in sorted(vocabulary.scenes.items()):
        if (number in vocabulary.test_scenes) == (split == "test"):
            choices = _choices(vocabulary, scene, kind)
            if choices:
                usable.append((scene, choices))
    return usable


def generate_game(kind: str, split: str, number: int, seed: int, receptacles: int, objects: int) -> Game:
    """The game called `number` of its kind and split, with about so many receptacles and other objects.

    The same for the same arguments and wheel. The receptacles that the task needs may be more.
    Raises `MissingRequirement` without the wheel.
    """
    vocabulary = load_vocabulary()
    draw = random.Random(f"{seed}/{kind}/{split}/{number}")
    scene, choices = draw.choice(usable_scenes(kind, split))
    thing, goal = draw.choice(choices)
    room = _Room(draw)
    sources = _sources(vocabulary, scene, thing, goal)
    needed = [goal] if goal else []
    if kind in PREPARING:
        needed.append(_NEEDED[PREPARING[kind]])
    if kind == "look_at_obj_in_light":
        needed.append(draw.choice([stand for stand in _LAMP_STANDS if stand in _types(scene)]))
    amount = 2 if kind == "pick_two_obj_and_place" else 1
    lie_in = [draw.choice(sources) for _ in range(amount)]
    _furnish(room, scene, [*needed, *lie_in], receptacles)
    for source in lie_in:
        room.lay(thing, _one_of(room, source))
    if kind == "look_at_obj_in_light":
        room.lay(LAMP, _one_of(room, needed[-1]))
    _fill(room, vocabulary, scene, thing, objects)
    pddl, wordings = vocabulary.goals[kind]
    named = {"obj": thing, "recep": goal, "toggle": LAMP, "mrecep": ""}
    task = draw.choice(wordings).format(**{key: value.lower() for key, value in named.items()})
    problem = _problem(vocabulary, room, pddl.format(**named))
    lamp = LAMP if kind == "look_at_obj_in_light" else ""
    return Game(kind, thing, goal, lamp, task, problem)


def _types(scene: Scene) -> set[str]:
    return {kind for kind, _ in scene.receptacles}


def _choices(vocabulary: Vocabulary, scene: Scene, kind: str) -> list[tuple[str, str]]:
    """Types of the object and of the receptacle that a task of `kind` may be about here."""
    standing = sorted(_types(scene))
    if kind == "look_at_obj_in_light":
        has_stand = scene.has_lamp and any(stand in standing for stand in _LAMP_STANDS)
        pairs = [(thing, "") for thing in scene.objects] if has_stand else []
    else:
        pairs = [
            (thing, goal) for goal in standing for thing in scene.objects if thing in vocabulary.fits[goal]
        ]
    if kind in PREPARING:
        needed, able = _NEEDED[PREPARING[kind]], vocabulary.able[_ABLE[PREPARING[kind]]]
        pairs = [
            (thing, goal) for thing, goal in pairs if needed in standing and goal != needed and thing in able
        ]
    return [pair for pair in pairs if _sources(vocabulary, scene, *pair)]


def _sources(vocabulary: Vocabulary, scene: Scene, thing: str, goal: str) -> list[str]:
    """Types of the receptacles in which the object may lie at first."""
    return [kind for kind in sorted(_types(scene)) if kind != goal and thing in vocabulary.fits[kind]]


def _furnish(room: _Room, scene: Scene, needed: Iterable[str], count: int) -> None:
    """One receptacle of each needed type, then others of the room up to `count`."""
    left = list(scene.receptacles)
    room.draw.shuffle(left)
    for kind in dict.fromkeys(needed):
        chosen = next(one for one in left if one[0] == kind)
        left.remove(chosen)
        room.receptacles.append(chosen)
    room.receptacles += left[: max(0, count - len(room.receptacles))]


def _one_of(room: _Room, kind: str) -> str:
    return room.draw.choice([each for each_kind, each in room.receptacles if each_kind == kind])


def _fill(room: _Room, vocabulary: Vocabulary, scene: Scene, thing: str, count: int) -> None:
    """Other objects, none of the kind the task is about."""
    others = [kind for kind in scene.objects if kind != thing]
    for _ in range(count):
        kind = room.draw.choice(others)
        possible = [each for holder, each in room.receptacles if kind in vocabulary.fits[holder]]
        if possible:
            room.lay(kind, room.draw.choice(possible))


def _problem(vocabulary: Vocabulary, room: _Room, goal: str) -> str:
    """The room as a PDDL problem for ALFWorld's domain."""
    facts = ["atLocation agent1 loc_bar_0_bar_0_bar_0_bar_0"]
    place = {}
    for number, (kind, each) in enumerate(room.receptacles, start=1):
        place[each] = f"loc_bar_{number}_bar_0_bar_0_bar_0"
        facts += [
            f"receptacleType {_name(each)} {kind}Type",
            f"receptacleAtLocation {_name(each)} {place[each]}",
        ]
        if kind in vocabulary.openable:
            facts.append(f"openable {_name(each)}")
    for kind, each, receptacle in room.lying:
        name = _name(each)
        facts += [f"objectType {name} {kind}Type", f"inReceptacle {name} {_name(receptacle)}"]
        facts.append(f"objectAtLocation {name} {place[receptacle]}")
        facts += [
            f"{able.lower()} {name}" for able, kinds in sorted(vocabulary.able.items()) if kind in kinds
        ]
        facts += [f"isReceptacleObject {name}"] if kind in vocabulary.holders else []
        facts += [f"pickupable {name}"] if kind != LAMP else []
    kinds, standing = sorted({kind for kind, *_ in room.lying}), {kind for kind, _ in room.receptacles}
    for receptacle in sorted(standing):
        held = (kind for kind in kinds if kind in vocabulary.fits[receptacle])
        facts += [f"canContain {receptacle}Type {kind}Type" for kind in held]
    declared = [
        ("agent", ["agent1"]),
        ("location", ["loc_bar_0_bar_0_bar_0_bar_0", *place.values()]),
        ("object", [_name(each) for _, each, _ in room.lying]),
        ("receptacle", [_name(each) for _, each in room.receptacles]),
        # The domain names these, whether or not they are here.
        ("otype", [f"{kind}Type" for kind in sorted({*kinds, "Knife", "ButterKnife"})]),
        ("rtype", [f"{kind}Type" for kind in sorted(standing | set(_NEEDED.values()))]),
    ]
    objects = "\n".join(f"{each} - {kind}" for kind, names in declared for each in names)
    init = "\n".join(f"({fact})" for fact in facts)
    # The library's goal closes the problem's own bracket.
    return f"(define (problem generated)\n(:domain alfred)\n(:objects\n{objects})\n(:init\n{init})\n{goal}"


def _name(identifier: str) -> str:
    """An identifier as PDDL allows it."""
    return "".join(_MANGLED.get(letter, letter) for letter in identifier)
