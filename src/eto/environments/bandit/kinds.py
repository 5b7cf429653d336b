"""Task types of the suite, by name: `bernoulli-easy-5-video`, `gaussian-hard-20-clothes`, `ratings-10`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from eto.data.texts import counted
from eto.environments.bandit.prompts import CLOTHES, LETTERS
from eto.errors import InputError

HORIZONS = {"easy": 300, "hard": 1000, "ratings": 200}
"""Steps of an episode in the paper, by difficulty; `ratings`: of the contextual bandit."""
MOST_FILMS = 30
DEFAULT = ("bernoulli-easy-5-video", "bernoulli-easy-5-clothes")
_PARTS = (("bernoulli", "gaussian"), ("easy", "hard"), ("5", "20"), ("video", "clothes"))
PUBLISHED = (*("-".join(parts) for parts in product(*_PARTS)), "ratings-10", "ratings-30")
"""The paper's 16 without users, and its two with them."""
_FORM = re.compile(
    r"(bernoulli|gaussian)-(easy|hard)-([1-9][0-9]?)-(video|clothes|own)|ratings-([1-9][0-9]?)"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a task type's name says."""

    name: str
    family: str
    """`bernoulli`, `gaussian` or `ratings`."""
    difficulty: str
    """`easy` or `hard`; `ratings` has none and is its own."""
    arms: int
    scene: str
    """Where the names of the arms come from: `video`, `clothes`, `own` or `films`."""

    @property
    def horizon(self) -> int:
        """The paper's."""
        return HORIZONS[self.difficulty]


def kind_of(name: str, own: Sequence[str]) -> Kind:
    """The task type called `name`; own: names for the arms of `…-own`. Raises `InputError`."""
    match = _FORM.fullmatch(name)
    if not match:
        hint = "for example bernoulli-easy-5-video, gaussian-hard-20-clothes, ratings-10, or kinds: all"
        raise InputError(f"unknown task type {name!r}", where="bandit.kinds", hint=hint)
    family, difficulty, arms, scene, films = match.groups()
    if films:
        kind = Kind(name, "ratings", "ratings", int(films), "films")
    else:
        kind = Kind(name, family, difficulty, int(arms), scene)
    most = {"video": len(LETTERS), "clothes": len(CLOTHES), "own": len(own), "films": MOST_FILMS}[kind.scene]
    if kind.scene == "own" and not own:
        hint = "name the arms: environment.options.names=[...]"
        raise InputError(f"the arms of {name} have no names", where="bandit.names", hint=hint)
    if not 2 <= kind.arms <= most:
        problem = f"{name} has {counted(kind.arms, 'arm')}"
        named = f", as many as there are names: {most}" if kind.scene == "own" else f" to {most}"
        raise InputError(problem, where="bandit.kinds", hint=f"2{named}")
    return kind


def check_names(names: Sequence[str], kinds: Sequence[Kind]) -> None:
    """Raises `InputError` for names that cannot tell arms apart, and such that no task type takes."""
    where = "bandit.names"
    if any(not name.strip() or "\n" in name for name in names):
        raise InputError(
            "an arm has an empty name, or one of several lines", where=where, hint="one line each"
        )
    folded = [name.strip().casefold() for name in names]
    if twice := [name for name, key in zip(names, folded, strict=True) if folded.count(key) > 1]:
        problem = f"{twice[0]!r} is there twice"
        raise InputError(problem, where=where, hint="names differ in more than capitals")
    if not any(kind.scene == "own" for kind in kinds):
        hint = "name a task type that takes them, such as bernoulli-easy-5-own"
        raise InputError("no task type takes names", where=where, hint=hint)
