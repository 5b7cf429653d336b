"""What ALFWorld's wheel knows of rooms: which things are where, what fits into what, how tasks are worded.

The wheel is pure Python data and code; only three of its files are read, and nothing it depends on is
needed. `pip install --no-deps` it, or install it with the original engine, which compiles C++.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from eto.errors import MissingRequirement

WHEEL = "alfworld==0.4.2"
INSTALL = f"pip install --no-deps {WHEEL}"
_BASINS = {"Sink": "SinkBasin", "Bathtub": "BathtubBasin"}


@dataclass(frozen=True, slots=True)
class Scene:
    """One of the 120 rooms."""

    number: int
    receptacles: tuple[tuple[str, str], ...]
    """Type and identifier of each, in the form of `Drawer|+00.12|-01.00|+00.50`."""
    objects: tuple[str, ...]
    """Types that can be carried."""
    has_lamp: bool


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All rooms, and what holds in each."""

    scenes: Mapping[int, Scene]
    test_scenes: frozenset[int]
    """Rooms that are for testing alone."""
    fits: Mapping[str, frozenset[str]]
    """Types of objects by the type of receptacle that may hold them."""
    able: Mapping[str, frozenset[str]]
    """Types of objects that are Heatable, Coolable, Cleanable, Sliceable or Toggleable."""
    openable: frozenset[str]
    holders: frozenset[str]
    """Types of objects that hold others, such as plates."""
    goals: Mapping[str, tuple[str, tuple[str, ...]]]
    """The goal's PDDL and the task's wordings by kind, with {obj}, {recep} and {toggle} to fill in."""


def wheel_directory() -> Path:
    """Where the wheel's package lies. Raises `MissingRequirement` where it is not installed."""
    # The package is places but not imported: its own imports may not be installed.
    spec = importlib.util.find_spec("alfworld")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "gen" / "layouts").is_dir():
            return Path(folder)
    raise MissingRequirement(
        f"the rooms of the wheel {WHEEL} are not installed",
        where="environment alfworld",
        hint=f"{INSTALL}, or name your game files: data=...",
    )


@lru_cache(maxsize=1)
def load_vocabulary() -> Vocabulary:
    """Reads the wheel, which takes a few milliseconds. Raises `MissingRequirement` as `wheel_directory`."""
    folder = wheel_directory()
    constants = _module(folder / "gen" / "constants.py")
    library = _module(folder / "gen" / "goal_library.py")
    holders = frozenset(constants.MOVABLE_RECEPTACLES_SET)
    fits = {kind: frozenset(held) for kind, held in constants.VAL_RECEPTACLE_OBJECTS.items()}
    standing = {kind: held for kind, held in fits.items() if kind not in holders}
    carried = frozenset().union(*standing.values())
    scenes = {}
    for path in sorted((folder / "gen" / "layouts").glob("FloorPlan*-objects.json")):
        number = int(path.name.removeprefix("FloorPlan").removesuffix("-objects.json"))
        scenes[number] = _scene(number, path, standing, carried)
    return Vocabulary(
        scenes=scenes,
        test_scenes=frozenset(constants.TEST_SCENE_NUMBERS),
        fits=standing,
        able={name: frozenset(kinds) for name, kinds in constants.VAL_ACTION_OBJECTS.items()},
        openable=frozenset(constants.OPENABLE_CLASS_LIST) - holders,
        holders=holders,
        goals={
            kind: (goal["pddl"].replace(" # ", " - "), tuple(goal["templates"]))
            for kind, goal in library.gdict.items()
        },
    )


def _scene(number: int, path: Path, standing: Mapping[str, frozenset[str]], carried: frozenset[str]) -> Scene:
    listed = set(json.loads(path.read_text(encoding="utf-8")))
    points = json.loads(path.with_name(f"FloorPlan{number}-openable.json").read_text(encoding="utf-8"))
    places = []
    for identifier in sorted(points):
        kind = identifier.split("|")[0]
        basin = _BASINS.get(kind, "")
        if basin in standing and basin in listed:
            places.append((basin, f"{identifier}|{basin}"))
        elif kind in standing:
            places.append((kind, identifier))
    known = {kind for kind, _ in places}
    # Of small things, such as the garbage can, the wheel gives no place: a made-up one will do.
    for position, kind in enumerate(sorted((listed & set(standing)) - known)):
        stem = next((large for large, basin in _BASINS.items() if basin == kind), kind)
        made_up = f"{stem}|+{position:02d}.50|+00.00|+00.00"
        places.append((kind, f"{made_up}|{kind}" if stem != kind else made_up))
    return Scene(number, tuple(places), tuple(sorted(listed & carried)), "DeskLamp" in listed)


def _module(path: Path) -> ModuleType:
    """One file of the wheel as a module of its own, so that its package is not imported."""
    spec = importlib.util.spec_from_file_location(f"_alfworld_{path.stem}", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
