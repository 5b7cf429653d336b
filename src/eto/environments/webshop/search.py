"""Ranked search over the products, as the original's: BM25 over words analysed as Lucene does for English.

The ranking is the environment's own behaviour, so near ties have to fall as they do there. Lucene
rounds document lengths to one byte; libraries that do not, `bm25s` among them, give the same ten
products in the same order for six of ten searches only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import Stemmer
from scipy.sparse import csc_array

from eto.environments.webshop.catalogue import Product

K1, B = 0.9, 0.4
EXACT = 24
"""Document lengths below it are kept as they are."""
RESULTS = 50
"""Products a search finds at the most."""
# Words as Unicode's text segmentation cuts them: letters joined by a dot, colon or apostrophe between
# letters, digits by a dot, comma or apostrophe between digits; ideographs and emoji one by one.
_ALONE = "\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(
    rf"[{_ALONE}]|[\u2600-\u27bf\u2b50\U0001f000-\U0001faff]"
    rf"|[^\W{_ALONE}](?:[^\W{_ALONE}]|[\u0300-\u036f\ufe0f]"
    r"|(?<=[^\W\d_])[.:'\u2019\u00b7](?=[^\W\d_])|(?<=\d)[.,;'\u2019](?=\d))*"
)
_POSSESSIVE = ("'s", "\u2019s", "'S", "\u2019S")
_STOP_WORDS = frozenset(
    (
        "a an and are as at be but by for if in into is it no not of on or such that the their then there "
        "these they this to was will with"
    ).split()
)
_stem = lru_cache(200_000)(Stemmer.Stemmer("porter").stemWord)


def analyse(text: str) -> list[str]:
    """The stems a text is found by: words without possessive and stop words, through Porter's stemmer."""
    words = (word[:-2] if word.endswith(_POSSESSIVE) else word for word in _WORD.findall(text))
    lower = (word.lower() for word in words if word.strip("_"))
    return [word if len(word) < 3 else _stem(word) for word in lower if word not in _STOP_WORDS]


def searched_text(product: Product) -> str:
    """What a product is found by: title, description, first feature and options."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    first = product.bullets[0] if product.bullets else ""
    return " ".join((product.title, product.description, first, options)).lower()


class Index:
    """Finds products by words: Lucene's BM25, in its arithmetic."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._asins = np.array([product.asin for product in products])
        self._columns: dict[str, int] = {}
        rows, columns, lengths = [], [], []
        for row, product in enumerate(products):
            stems = analyse(searched_text(product))
            lengths.append(len(stems))
            rows += [row] * len(stems)
            columns += [self._columns.setdefault(stem, len(self._columns)) for stem in stems]
        shape = len(products), len(self._columns)
        counts = csc_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
        counts.sum_duplicates()
        self._weights = _bm25(counts, np.array(lengths))
        self.search = lru_cache(20_000)(self._search)

    def _search(self, query: str) -> tuple[str, ...]:
        """Up to `RESULTS` asins, best first; equal scores by asin."""
        known = [self._columns[stem] for stem in analyse(query) if stem in self._columns]
        scores = np.zeros(len(self._asins))
        for column in known:
            part = slice(*self._weights.indptr[column : column + 2])
            scores[self._weights.indices[part]] += self._weights.data[part]
        scores = scores.astype(np.float32)
        found = np.flatnonzero(scores)
        if len(found) > RESULTS:
            least = np.partition(scores[found], -RESULTS)[-RESULTS]
            found = found[scores[found] >= least]
        order = np.lexsort((self._asins[found], -scores[found]))[:RESULTS]
        return tuple(self._asins[found[order]].tolist())


def _bm25(counts: csc_array, lengths: np.ndarray) -> csc_array:
    """What each word adds to the score of each document, from `counts` `[documents, words]`."""
    documents = counts.shape[0]
    holding = np.diff(counts.indptr)
    rarity = np.log1p((documents - holding + 0.5) / (holding + 0.5)).astype(np.float32)
    scale = (1 / (K1 * (1 - B + B * _coarse(lengths) / lengths.mean()))).astype(np.float32)
    weight = np.repeat(rarity, holding)
    counts.data = weight - weight / (1 + counts.data * scale[counts.indices])
    return counts


def _coarse(lengths: np.ndarray) -> np.ndarray:
    """Lengths as Lucene keeps them, in one byte each: exact below 24, then four significant bits."""
    above = np.maximum(lengths - EXACT, 0)
    unit = 2 ** np.maximum(np.floor(np.log2(np.maximum(above, 1))).astype(int) - 3, 0)
    return np.where(lengths < EXACT, lengths, EXACT + above // unit * unit)
