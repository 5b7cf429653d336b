"""Games of TextWorld (Côté et al. 2018, arXiv:1806.11532), made by seed and kept in the cache.

A game is made on demand, in one to a few seconds, by the Inform 7 compiler inside the package.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eto.data.atomic import atomic_directory
from eto.errors import EnvironmentFailure, InputError, MissingRequirement
from eto.paths import cache_dir

GAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "coin": ("tw-coin_collector", {"level": 5}),
    "treasure": ("tw-treasure_hunter", {"level": 5}),
    "cooking": (
        "tw-cooking",
        {"recipe": 1, "take": 1, "go": 1, "open": True, "cook": True, "cut": False, "drop": False},
    ),
    "simple": ("tw-simple", {"rewards": "dense"}),
}
"""Game -> (its name in TextWorld, its parameters with the values of a small version)."""
CHOICES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("coin", "level"): tuple(n for n in range(1, 301) if ((n - 1) // 100 + 1) * ((n - 1) % 100 + 1) <= 100),
    ("treasure", "level"): tuple(range(1, 31)),
    ("cooking", "recipe"): (1, 2, 3, 4, 5),
    ("cooking", "take"): (0, 1, 2, 3, 4, 5),
    ("cooking", "go"): (1, 6, 9, 12),
    ("simple", "rewards"): ("dense", "balanced", "sparse"),
}
"""What a parameter may be; any other is true or false. The story format holds a hundred rooms."""

FORM = 1
"""Raised when the same seed is to give other games: part of the cache's folder."""
ATTEMPTS = 10
ATTEMPT_STRIDE = 1_000_000
"""Some seeds give no game, such as a map too small for the quest; then this far on is tried next."""


@dataclass(frozen=True, slots=True)
class GameFiles:
    """A compiled game."""

    story: Path
    """For the interpreter; TextWorld finds its description beside it."""
    description: Path

    def walkthrough(self) -> list[str]:
        """Commands that win."""
        return list(json.loads(self.description.read_text(encoding="utf-8"))["metadata"]["walkthrough"])


def complete_params(game: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """All parameters of a game, those not given with a small version's values. Raises `InputError`."""
    if game not in GAMES:
        problem, hint = f"unknown game {game!r}", f"known ones: {', '.join(GAMES)}"
        raise InputError(problem, where="textworld.game", hint=hint)
    params, where = dict(GAMES[game][1]), "textworld.params"
    for name, value in (given or {}).items():
        if name not in params:
            problem, hint = f"{game} has no parameter {name!r}", f"known ones: {', '.join(params)}"
            raise InputError(problem, where=where, hint=hint)
        known = CHOICES.get((game, name), (False, True))
        if value not in known or type(value) is not type(known[0]):
            hint = f"one of {', '.join(map(str, known))}"
            if len(known) > 12:
                hint = f"a level from {known[0]} to {known[-1]}, of at most 100 rooms"
            raise InputError(f"{name} is {value!r}", where=where, hint=hint)
        params[name] = value
    if params.get("take", 0) > params.get("recipe", 0):
        problem = f"{params['take']} ingredients to take of a recipe of {params['recipe']}"
        raise InputError(problem, where=where, hint="take at most as many as the recipe has")
    return params


def turn_cap(game: str, params: Mapping[str, Any]) -> int:
    """Turns in which the walkthrough and about as many detours fit."""
    level = params.get("level", 0)
    if game == "coin":
        return 10 + 2 * ((level - 1) // 100 + 1) * ((level - 1) % 100 + 1)
    if game == "treasure":
        return (20, 40, 80)[(level - 1) // 10]
    if game == "cooking":
        return (25 if params["go"] == 1 else 50) + 15 * (params["recipe"] - 1)
    return 30


def game_files(game: str, params: Mapping[str, Any], objective: str, seed: int) -> GameFiles:
    """The game of a seed, from the cache or made.

    Several processes may ask at the same time: each makes the game, and the first one stays.

    Raises `MissingRequirement` where the cache cannot be written, `EnvironmentFailure` where
    TextWorld fails.
    """
    key = json.dumps([game, params, objective], sort_keys=True)
    group = f"{game}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    place = cache_dir() / "textworld" / f"{version('textworld')}-{FORM}" / group / str(seed)
    files = GameFiles(place / "game.z8", place / "game.json")
    if place.is_dir():
        return files
    try:
        with atomic_directory(place, shared=True) as folder:
            _make(game, params, objective, seed, folder / "game.z8")
    except OSError as error:
        hint = "free some space, fix its permissions, or set ETO_CACHE to another folder"
        raise MissingRequirement(
            f"a game cannot be written: {error}", where=str(place.parent), hint=hint
        ) from error
    return files


def forget(files: GameFiles) -> None:
    """Drop a damaged game, so that it is made again."""
    shutil.rmtree(files.story.parent, ignore_errors=True)


def _make(game: str, params: Mapping[str, Any], objective: str, seed: int, story: Path) -> None:
    """Write the story and its description. Raises `EnvironmentFailure`."""
    import textworld
    from textworld.challenges import CHALLENGES
    from textworld.generator import CouldNotCompileGameError, QuestGenerationError, compile_game
    from textworld.generator.world import NoFreeExitError

    settings = dict(params)
    if game == "cooking":
        settings |= {"recipe_seed": 0, "split": None}
    if game == "simple":
        settings |= {"goal": "detailed" if objective == "steps" else "brief", "test": False}
    make, made = CHALLENGES[GAMES[game][0]][1], None
    for attempt in range(ATTEMPTS):
        options = textworld.GameOptions()
        options.seeds = seed + attempt * ATTEMPT_STRIDE
        options.grammar.only_last_action = objective == "goal"
        options.path = str(story)
        textworld.g_rng.set_seed(seed)  # the source of what no seed of the options covers
        try:
            made = make(settings, options)
            break
        except (QuestGenerationError, NoFreeExitError, ValueError):  # nothing comes of this seed
            continue
    if made is None:
        raise EnvironmentFailure(f"TextWorld finds no {game} game", where=f"seed {seed}")
    made.metadata["walkthrough"] = made.walkthrough
    try:
        compile_game(made, options)
    except CouldNotCompileGameError as error:
        raise EnvironmentFailure(
            f"Inform 7 cannot compile the game: {error}", where=f"{game}, seed {seed}"
        ) from error
    story.with_suffix(".ni").unlink()  # the source text
