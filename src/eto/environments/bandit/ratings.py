"""Ratings of films by users, for the contextual bandit: made up by seed, or a user's MovieLens files.

As EVOLvE does (arXiv:2410.06238): the K films rated most often are the arms, a missing rating is 0, the
matrix of users and films is cut to its largest singular values, and a user's row of left singular vectors
are the features. Other than there, these are multiplied by the root of the number of users, so that an
entry has about the size 1 and the identity that LinUCB begins with does not outweigh all data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eto.environments.bandit.games import DIGITS, Floats

USERS = 400
"""Of a made-up table."""
SHARES = {"train": (0.0, 0.5), "dev": (0.5, 0.75), "test": (0.75, 1.0)}
"""Which users a split serves: no user is in two."""
FEATURE_DIGITS = 2
"""Decimals of features: LinUCB sees what the agent reads."""
_FACTORS = 4
"""Tastes behind made-up ratings."""
_GENRES = (
    "Comedy",
    "Crime",
    "Drama",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Western",
    "War",
    "Thriller",
)
_PLACES = ("Harbour", "Valley", "Bridge")


@dataclass(frozen=True, eq=False)
class Ratings:
    """A table cut to low rank."""

    films: tuple[str, ...]
    """Names of the arms."""
    table: Floats
    """`[users, films]`, what recommending a film to a user pays."""
    features: Floats
    """`[users, rank]`."""

    def of_split(self, split: str) -> tuple[Floats, Floats]:
        """Rows of table and features of the users whom a split serves."""
        first, last = (round(share * len(self.table)) for share in SHARES[split])
        return self.table[first:last], self.features[first:last]


def low_rank(films: tuple[str, ...], ratings: Floats, rank: int) -> Ratings:
    """`ratings` `[users, films]` cut to its `rank` largest singular values (at most all)."""
    left, values, right = np.linalg.svd(ratings, full_matrices=False)
    rank = min(rank, len(values))
    # A singular vector's sign is arbitrary; fixed, so that features do not depend on the library.
    signs = np.where(left[:, :rank].sum(axis=0) < 0.0, -1.0, 1.0)
    left, right = left[:, :rank] * signs, right[:rank] * signs[:, None]
    table = (left * values[:rank]) @ right
    features = left * np.sqrt(len(ratings))
    return Ratings(films, table.round(DIGITS), features.round(FEATURE_DIGITS))


def made_up(films: int, rank: int, seed: int) -> Ratings:
    """Ratings from 1 to 5 of users with a few tastes, with noise, all of them there."""
    draw = np.random.default_rng([seed, films])
    tastes = draw.normal(0.0, 1.0, (USERS, _FACTORS))
    traits = draw.normal(0.0, 0.6, (_FACTORS, films))
    liked = draw.normal(3.0, 0.5, films)
    ratings = liked + tastes @ traits + draw.normal(0.0, 0.5, (USERS, films))
    return low_rank(_names(films), np.clip(np.round(ratings), 1.0, 5.0), rank)


def _names(films: int) -> tuple[str, ...]:
    """`Harbour Comedy (1971)` and so on: all different, none of them real."""
    known = [f"{place} {genre}" for place in _PLACES for genre in _GENRES]
    return tuple(f"{known[n % len(known)]} ({1971 + n})" for n in range(films))
