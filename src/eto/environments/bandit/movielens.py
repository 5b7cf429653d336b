"""MovieLens files of a user's own (Harper and Konstan 2015, doi:10.1145/2827872) as ratings.

Three forms are read: `ratings.csv` with `movies.csv` (ml-latest, 25m, 32m), `ratings.dat` with `movies.dat`
(1m, 10m), `u.data` with `u.item` (100k). Nothing is downloaded.
"""

from __future__ import annotations

import codecs
import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eto.environments.bandit.ratings import Ratings, low_rank
from eto.errors import InputError

LEAST_USERS = 8
"""So that each split serves two at least."""
OPTION = "bandit.ratings"


class _Form(NamedTuple):
    ratings: str
    films: str
    separator: str
    has_header: bool
    encoding: str


FORMS = (
    _Form("ratings.csv", "movies.csv", ",", True, "utf-8"),
    _Form("ratings.dat", "movies.dat", "::", False, "latin-1"),
    _Form("u.data", "u.item", "\t|", False, "latin-1"),
)
"""Both files, what parts their columns (of `u.data` and `u.item` each its own), and how they are read."""


def load_movielens(directory: Path, films: int, rank: int, seed: int) -> Ratings:
    """The `films` rated most often in the files of `directory`, users in an order drawn by `seed`.

    Raises `InputError` for missing files and columns, for values that are no ratings, and for a film that a
    user rates twice.
    """
    form = next((form for form in FORMS if (directory / form.ratings).is_file()), None)
    if form is None:
        known = ", or ".join(f"{form.ratings} and {form.films}" for form in FORMS)
        problem = "holds no MovieLens files" if directory.is_dir() else "is not a directory"
        raise InputError(problem, where=f"{OPTION}: {directory}", hint=f"name a directory with {known}")
    path = directory / form.ratings
    # The largest files hold 30 million lines: they are read twice and not kept.
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for _, user, film, _ in _ratings(path, form):
        counts[film] += 1
        seen.add(user)
    _check_size(path, len(counts), len(seen), films)
    top = [film for film, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:films]]
    titles = _titles(directory / form.films, form, top)
    users = sorted(seen)
    np.random.default_rng(seed).shuffle(users)
    row = {user: number for number, user in enumerate(users)}
    column = {film: number for number, film in enumerate(top)}
    table = np.full((len(users), films), np.nan)
    for place, user, film, rating in _ratings(path, form):
        if film in column:
            at = row[user], column[film]
            if not np.isnan(table[at]):
                problem = f"user {user[:40]} rates film {film[:40]} a second time"
                raise InputError(problem, where=place, hint="keep one rating of each film by a user")
            table[at] = rating
    return low_rank(titles, np.nan_to_num(table), rank)


def _check_size(path: Path, films: int, users: int, arms: int) -> None:
    if not films:
        raise InputError("has no ratings", where=str(path), hint="name other files")
    if films < arms:
        problem = f"has ratings of {films} films, fewer than the {arms} arms"
        hint = "take a task type with fewer arms, or other files"
        raise InputError(problem, where=str(path), hint=hint)
    if users < LEAST_USERS:
        raise InputError(f"has {users} users", where=str(path), hint=f"at least {LEAST_USERS}")


def _ratings(path: Path, form: _Form) -> Iterator[tuple[str, str, str, float]]:
    """(place, user, film, rating) of each line."""
    for place, (user, film, rating) in _columns(path, form, ("userId", "movieId", "rating"), 0):
        if not user or not film:
            missing = "film" if user else "user"
            raise InputError(f"names no {missing}", where=place, hint="restore the file, or delete the line")
        try:
            value = float(rating)
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= 5.0:
            hint = "ratings are numbers from 0 to 5"
            raise InputError(f"{rating[:40]!r} is not a rating", where=place, hint=hint)
        yield place, user, film, value


def _titles(path: Path, form: _Form, wanted: Sequence[str]) -> tuple[str, ...]:
    """The titles of `wanted` films, in their order. Raises `InputError` where one has none of its own."""
    if not path.is_file():
        problem = f"is not there: {form.ratings} names films by number alone"
        raise InputError(problem, where=str(path), hint="put the file of titles beside it")
    titles = {film: title.strip() for _, (film, title) in _columns(path, form, ("movieId", "title"), 1)}
    if missing := [film for film in wanted if not titles.get(film)]:
        problem = f"has no title for film {missing[0]}, which is rated often"
        raise InputError(problem, where=str(path), hint="take both files from the same download")
    named = tuple(_spoken(titles[film]) for film in wanted)
    if twice := [title for title, count in Counter(map(str.casefold, named)).items() if count > 1]:
        problem = f"has {twice[0]!r} twice"
        raise InputError(problem, where=str(path), hint="give films titles of their own")
    return named


def _columns(
    path: Path, form: _Form, names: Sequence[str], part: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(place, the columns `names`) of each line; without a header they are the first ones. `part`: 0 for the
    file of ratings, 1 for that of titles."""
    separator = form.separator if len(form.separator) != 2 or form.separator == "::" else form.separator[part]
    lines = _lines(path, form, separator)
    places = list(range(len(names)))
    if form.has_header:
        header = [each.strip() for each in next(lines, (1, []))[1]]
        if missing := [name for name in names if name not in header]:
            problem = f"has no column {', '.join(missing)}; its columns: {', '.join(header)[:200] or 'none'}"
            hint = f"its first line names {', '.join(names)}, as in the files of MovieLens"
            raise InputError(problem, where=str(path), hint=hint)
        places = [header.index(name) for name in names]
    for number, line in lines:
        if not line or line == [""]:
            continue
        place = f"{path}, line {number}"
        if len(line) <= max(places):
            problem = f"has {len(line)} columns, not the {max(places) + 1} of {', '.join(names)}"
            raise InputError(problem, where=place, hint="restore the file, or delete the line")
        yield place, tuple(line[index].strip() for index in places)


def _lines(path: Path, form: _Form, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(number, columns) of each line, a header included. A file with a byte order mark is UTF-8."""
    with path.open("rb") as begun:
        marked = begun.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    encoding = "utf-8-sig" if marked else form.encoding
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        if not form.has_header:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n").split(separator)
            return
        reader = csv.reader(file, strict=True)  # else an open quotation mark swallows the lines after it
        try:
            for columns in reader:
                yield reader.line_num, columns
        except csv.Error as error:
            place = f"{path}, line {reader.line_num}"
            hint = "close each quotation mark, and double those within a text"
            raise InputError(f"is no line of a CSV file: {error}", where=place, hint=hint) from error


def _spoken(title: str) -> str:
    """`Matrix, The (1999)` as one says it."""
    for article in ("The", "A", "An"):
        before, comma, after = title.partition(f", {article} (")
        if comma:
            return f"{article} {before} ({after}"
    return title
