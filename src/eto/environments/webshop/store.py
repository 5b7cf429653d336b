"""All products of a shop with what its goals and its search need, on disk or in memory.

On disk it is a directory: `products.sqlite`, arrays as `.npy` files and `store.json`. Who opens it holds
a few numbers a product; products are read when they are shown.
"""

from __future__ import annotations

import sqlite3
import weakref
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from eto.environments.webshop.arrays import Arrays
from eto.environments.webshop.products import LONGEST_ASIN, Product, from_json, to_json
from eto.errors import EnvironmentFailure

DATABASE = "products.sqlite"
KEPT = 4_000
"""Products kept in memory after they were read, a few kilobytes each."""
BLOCK = 10_000
_ANY = "surrogatepass"
Value = TypeVar("Value")


class Products(Sequence[Product]):
    """Products in the order of their file, by row."""

    def __init__(self, database: sqlite3.Connection, arrays: Arrays, categories: Sequence[str]) -> None:
        """`categories`: what the codes of the array `categories` stand for."""
        self.arrays, self.categories = arrays, list(categories)
        self.asins = arrays["asins"]
        self._database = database
        weakref.finalize(self, database.close)
        self._product = lru_cache(KEPT)(self._read)
        self.row = lru_cache(KEPT)(self._row)

    def __len__(self) -> int:
        return len(self.asins)

    def __getitem__(self, row: int) -> Product:  # type: ignore[override]
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self._product(row)

    def __iter__(self) -> Iterator[Product]:
        return map(self._read, range(len(self)))

    def column(self, word: str) -> int | None:
        """Number of a word of the index; None where no product has it."""
        line = self._one("SELECT number FROM words WHERE word = ?", _key(word))
        return None if line is None else line[0]

    def listed(self, source: str, name: str) -> tuple[str, ...]:
        """Asins of all products of one "category" or "query", the kind, in the order of their file."""
        is_query = source == "query"
        names = self.arrays["query_names"].tolist() if is_query else self.categories
        codes = self.arrays["queries" if is_query else "categories"]
        return tuple(self.asins[codes == names.index(name)].tolist()) if name in names else ()

    def _row(self, asin: str) -> int:
        """Raises `KeyError`."""
        line = self._one("SELECT row FROM products WHERE asin = ?", _key(asin))
        if line is None:
            raise KeyError(asin)
        return line[0]

    def _read(self, row: int) -> Product:
        line = self._one("SELECT product FROM products WHERE row = ?", row)
        if line is None:
            raise IndexError(row)
        return from_json(line[0])

    def _one(self, query: str, value: Any) -> tuple[Any, ...] | None:
        try:
            return self._database.execute(query, (value,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise EnvironmentFailure(
                f"the stored products are damaged: {error}",
                where=str(self.arrays.directory),
                hint="delete this directory: it is built again",
            ) from error


class ByAsin(Mapping[str, Value]):
    """What is kept by row, found by a product's number."""

    def __init__(self, products: Products, values: Sequence[Value]) -> None:
        self._products, self._values = products, values

    def __getitem__(self, asin: str) -> Value:
        return self._values[self._products.row(asin)]

    def __iter__(self) -> Iterator[str]:
        return map(str, self._products.asins)

    def __len__(self) -> int:
        return len(self._products)


@dataclass(slots=True)
class Catalogue:
    """Products in the order of their file."""

    products: Products
    skipped: Counter[str] = field(default_factory=Counter)
    """What was left out or repaired, by reason."""
    by_asin: Mapping[str, Product] = field(init=False)

    def __post_init__(self) -> None:
        self.by_asin = ByAsin(self.products, self.products)


class ProductWriter:
    """Writes products one by one."""

    def __init__(self, directory: Path | None) -> None:
        """`directory`: an empty one; None for a store in memory."""
        self.arrays = Arrays(directory)
        self.categories: dict[str, int] = {}
        self.count = 0
        self._queries: dict[str, int] = {}
        self._codes, self._query_codes = array("i"), array("i")
        path = directory / DATABASE if directory else ":memory:"
        self._database = sqlite3.connect(path, check_same_thread=False)
        # Nobody reads a store before it is whole, so that no journal is needed.
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;"
            "CREATE TABLE products (row INTEGER PRIMARY KEY, asin BLOB UNIQUE, product TEXT);"
            "CREATE TABLE words (word BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;"
        )

    def __contains__(self, asin: object) -> bool:
        query = "SELECT 1 FROM products WHERE asin = ?"
        return isinstance(asin, str) and self._database.execute(query, (_key(asin),)).fetchone() is not None

    def add(self, product: Product) -> None:
        row = (self.count, _key(product.asin), to_json(product))
        self._database.execute("INSERT INTO products VALUES (?, ?, ?)", row)
        self._codes.append(self.categories.setdefault(product.category, len(self.categories)))
        self._query_codes.append(self._queries.setdefault(product.query, len(self._queries)))
        self.count += 1

    def finish(self, words: Mapping[str, int]) -> None:
        """Write what is left, and the numbers of all words."""
        pairs = ((_key(word), words[word]) for word in sorted(words))
        self._database.executemany("INSERT INTO words VALUES (?, ?)", pairs)
        self._database.commit()
        self.arrays["categories"] = np.array(self._codes, np.int32)
        self.arrays["queries"] = np.array(self._query_codes, np.int32)
        self.arrays["query_names"] = np.array(list(self._queries), np.str_)
        self.arrays.write("asins", f"U{LONGEST_ASIN}", self.count, self._asins())

    def products(self) -> Products:
        """Of a store in memory, once it is finished."""
        return Products(self._database, self.arrays, list(self.categories))

    def close(self) -> None:
        self._database.close()

    def _asins(self) -> Iterator[np.ndarray]:
        rows = self._database.execute("SELECT asin FROM products ORDER BY row")
        while block := rows.fetchmany(BLOCK):
            yield np.array([key.decode("utf-8", _ANY) for (key,) in block])


def open_products(directory: Path, categories: Sequence[str]) -> Products:
    """The products of a store on disk. Raises `OSError`, `ValueError` or `sqlite3.Error`: it is broken."""
    # Nobody writes into a store that is there, so that readers need no locks.
    address = f"{(directory / DATABASE).resolve().as_uri()}?mode=ro&immutable=1"
    database = sqlite3.connect(address, uri=True, check_same_thread=False)
    return Products(database, Arrays(directory), categories)


def _key(text: str) -> bytes:
    # JSON may hold halves of surrogate pairs, which SQLite's texts may not.
    return text.encode("utf-8", _ANY)
