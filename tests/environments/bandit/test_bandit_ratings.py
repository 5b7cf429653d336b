"""Ratings cut to low rank, and the files they come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eto.environments import load_suite
from eto.environments.bandit.games import played
from eto.environments.bandit.movielens import load_movielens
from eto.environments.bandit.oracles import LinUcb
from eto.environments.bandit.ratings import USERS, low_rank, made_up
from eto.environments.toolkit.conformance import check_environment
from eto.errors import InputError

TITLES = ("Matrix, The (1999)", "Fargo (1996)", "Alien (1979)", "Unrated (2001)")
FORMS = ("ratings.csv", "ratings.dat", "u.data")


def write_files(folder: Path, form: str = "ratings.csv", users: int = 12) -> np.ndarray:
    """MovieLens files of `users` who rate films 1 to 3, film 1 most often; -> `[users, 3]`, 0: not rated."""
    draw = np.random.default_rng(0)
    table = draw.integers(1, 6, size=(users, 3)).astype(float)
    table[0, 1] = table[0, 2] = table[1, 2] = 0.0  # film 1 has all ratings, film 2 one less, film 3 two
    rated = [(u + 100, f + 1, table[u, f]) for f in (2, 0, 1) for u in range(users) if table[u, f]]
    if form == "ratings.csv":
        lines = ["userId,movieId,rating,timestamp", *(f"{u},{f},{r},9" for u, f, r in rated)]
        titles = ["movieId,title,genres", *(f'{n},"{t}",Drama' for n, t in enumerate(TITLES, 1))]
        names = ("ratings.csv", "movies.csv")
    elif form == "ratings.dat":
        lines = [f"{u}::{f}::{r:.0f}::9" for u, f, r in rated]
        titles = [f"{n}::{t}::Drama|War" for n, t in enumerate(TITLES, 1)]
        names = ("ratings.dat", "movies.dat")
    else:
        lines = [f"{u}\t{f}\t{r:.0f}\t9" for u, f, r in rated]
        titles = [f"{n}|{t}|01-Jan-1995||url|0|1" for n, t in enumerate(TITLES, 1)]
        names = ("u.data", "u.item")
    for name, content in zip(names, (lines, titles), strict=True):
        (folder / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    return table


def test_a_table_is_cut_to_its_largest_singular_values() -> None:
    ratings = np.random.default_rng(1).integers(1, 6, size=(30, 6)).astype(float)
    left, values, right = np.linalg.svd(ratings, full_matrices=False)
    cut = low_rank(tuple("abcdef"), ratings, 2)
    assert cut.table == pytest.approx((left[:, :2] * values[:2]) @ right[:2], abs=6e-4)
    assert np.abs(cut.features) == pytest.approx(np.abs(left[:, :2]) * np.sqrt(30), abs=6e-3)
    # What a film pays is linear in the user's features: LinUCB's model holds.
    fitted, *_ = np.linalg.lstsq(cut.features, cut.table, rcond=None)
    assert cut.features @ fitted == pytest.approx(cut.table, abs=0.1)
    assert low_rank(tuple("abcdef"), ratings, 6).table == pytest.approx(ratings, abs=1e-3)
    assert low_rank(tuple("abcdef"), ratings, 50).features.shape == (30, 6)


def test_a_made_up_table_follows_its_seed_and_splits_its_users() -> None:
    one, again, other = made_up(10, 5, 0), made_up(10, 5, 0), made_up(10, 5, 1)
    assert (one.table == again.table).all() and (one.table != other.table).any()
    assert len(set(one.films)) == 10 and len(set(made_up(30, 5, 0).films)) == 30
    sizes = [len(one.of_split(split)[0]) for split in ("train", "dev", "test")]
    assert sizes == [200, 100, 100]
    tables = np.concatenate([one.of_split(split)[0] for split in ("train", "dev", "test")])
    assert (tables == one.table).all(), "each user in one split"


def test_linucb_needs_features_of_about_the_size_one() -> None:
    """Rows of singular vectors as they are drown in the identity that LinUCB begins with."""
    suite = load_suite("bandit", kinds=["ratings-10"], tasks_per_split=15)
    gains = []
    for task in suite.tasks("test"):
        bandit = suite.bandit(task)
        small = replace(bandit, features=bandit.features / np.sqrt(USERS))
        earned, without = (each.reward(played(each, LinUcb(10, 5))) for each in (bandit, small))
        gains.append(earned - without)
    assert np.mean(gains) > 4 * np.std(gains) / np.sqrt(len(gains)) and np.mean(gains) > 0.05


@pytest.mark.parametrize("form", FORMS)
def test_files_of_three_forms_are_read(tmp_path: Path, form: str) -> None:
    table = write_files(tmp_path, form)
    read = load_movielens(tmp_path, 2, rank=2, seed=0)
    assert read.films == ("The Matrix (1999)", "Fargo (1996)"), "those rated most often"
    # Full rank: the ratings again, users in another order, a missing one as 0.
    assert sorted(map(tuple, read.table.round(2).tolist())) == sorted(
        map(tuple, (table[:, :2] + 0.0).tolist())
    )
    order = load_movielens(tmp_path, 2, rank=2, seed=1)
    assert (order.table != read.table).any(), "the seed decides the order of users"


def test_a_suite_plays_over_files(tmp_path: Path) -> None:
    write_files(tmp_path)
    suite = load_suite("bandit", kinds=["ratings-3"], ratings=str(tmp_path), horizon=8, tasks_per_split=2)
    task = suite.tasks("test")[0]
    system = suite.messages(task, suite.environment().reset(task))[0].content
    assert "3 films: The Matrix (1999), Fargo (1996), Alien (1979)." in system
    assert check_environment(suite, count=1, workers=0) == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ratings.csv", "userId,movieId,timestamp\n1,1,9\n", "has no column rating"),
        ("ratings.csv", "1,1,4.0,9\n", "has no column userId, movieId, rating"),
        ("ratings.csv", "", "has no column"),
        ("ratings.csv", "userId,movieId,rating\n", "has no ratings"),
        ("ratings.csv", "userId,movieId,rating\n1,1\n", "line 2: has 2 columns, not the 3"),
        ("ratings.csv", "userId,movieId,rating\n1,1,good\n", "line 2: 'good' is not a rating"),
        ("ratings.csv", "userId,movieId,rating\n1,1,nan\n", "'nan' is not a rating"),
        ("ratings.csv", "userId,movieId,rating\n1,1,6\n", "'6' is not a rating"),
        ("ratings.csv", "userId,movieId,rating\n,1,5\n", "line 2: names no user"),
        ("ratings.csv", "userId,movieId,rating\n1, ,5\n", "line 2: names no film"),
        ("ratings.csv", 'userId,movieId,rating,note\n1,1,5,"good\n1,2,5,\n', "line 3: is no line of a CSV"),
        ("movies.csv", 'movieId,title\n1,"a\n2,b\n' + "3,c\n" * 50_000, "is no line of a CSV"),
        ("movies.csv", 'movieId,"title"x\n1,a\n', "line 1: is no line of a CSV"),
        ("ratings.csv", "userId,movieId,rating\n1,1,5\n", "fewer than the 3 arms"),
        ("ratings.csv", "userId,movieId,rating\n1,1,5\n1,2,5\n1,3,5\n", "has 1 users"),
        ("movies.csv", "movieId,name\n1,x\n", "has no column title"),
        ("movies.csv", "movieId,title\n1,Alien (1979)\n", "has no title for film 2"),
        ("movies.csv", "movieId,title\n1,\n2,b\n3,c\n", "has no title for film 1"),
        ("movies.csv", "movieId,title\n1,a\n2,A\n3,c\n", "has 'a' twice"),
        ("movies.csv", None, "is not there"),
        ("ratings.csv", None, "holds no MovieLens files"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    write_files(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        load_suite("bandit", kinds=["ratings-3"], ratings=str(tmp_path))
    said = f"{error.value.where}: {error.value.problem}"
    assert says in said and str(tmp_path) in said and error.value.hint


@pytest.mark.parametrize("form", FORMS)
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, form: str) -> None:
    write_files(tmp_path, form)
    plain = load_movielens(tmp_path, 2, rank=2, seed=0)
    for path in tmp_path.iterdir():
        text = path.read_text()
        quoted = text.replace("userId", '"userId"').replace("movieId,title", '"movieId",title')
        path.write_text(quoted, encoding="utf-8-sig")
    marked = load_movielens(tmp_path, 2, rank=2, seed=0)
    assert marked.films == plain.films and (marked.table == plain.table).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_second_rating_of_a_film_by_a_user_is_named(tmp_path: Path, form: str) -> None:
    write_files(tmp_path, form)
    path = tmp_path / form
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(InputError, match=f"line {len(lines) + 1}: user .* rates film 2 a second time"):
        load_movielens(tmp_path, 2, rank=2, seed=0)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        load_movielens(tmp_path / "none", 3, 2, 0)
