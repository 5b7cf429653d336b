"""Ranked search over the products, as the original's: BM25 over words analysed as Lucene does for English.

The ranking is the environment's own behaviour, so near ties have to fall as they do there. Lucene
rounds document lengths to one byte; libraries that do not, `bm25s` among them, give the same ten
products in the same order for six of ten searches only.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import Stemmer

from eto.environments.webshop.products import Product
from eto.environments.webshop.store import Products

RESULTS = 50
"""Products a search finds at the most."""
SEARCHES = 5_000
"""Searches whose results are remembered, some kilobytes each."""
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
_stem = Stemmer.Stemmer("porter").stemWord


def analyse(text: str) -> list[str]:
    """The stems a text is found by: words without possessive and stop words, through Porter's stemmer."""
    return [stem for word in _WORD.findall(text) if (stem := _analysed(word))]


@lru_cache(200_000)
def _analysed(word: str) -> str:
    """The stem of a word as it stands in a text; empty where nothing is found by it."""
    if word.endswith(_POSSESSIVE):
        word = word[:-2]
    lower = word.lower()
    if not word.strip("_") or lower in _STOP_WORDS:
        return ""
    return lower if len(lower) < 3 else _stem(lower)


def searched_text(product: Product) -> str:
    """What a product is found by: title, description, first feature and options."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    first = product.bullets[0] if product.bullets else ""
    return " ".join((product.title, product.description, first, options)).lower()


class Index:
    """Finds products by words: Lucene's BM25, see `eto.environments.webshop.postings`."""

    def __init__(self, products: Products) -> None:
        self._asins, self._column = products.asins, products.column
        arrays = products.arrays
        self._firsts, self._rows, self._weights = arrays["firsts"], arrays["rows"], arrays["weights"]
        self.search = lru_cache(SEARCHES)(self._search)

    def _search(self, query: str) -> tuple[str, ...]:
        """Up to `RESULTS` asins, best first; equal scores by asin."""
        columns = map(self._column, analyse(query))
        scores = np.zeros(len(self._asins))
        for column in columns:
            if column is not None:
                part = slice(*self._firsts[column : column + 2])
                scores[self._rows[part]] += self._weights[part]
        scores = scores.astype(np.float32)
        found = np.flatnonzero(scores)
        if len(found) > RESULTS:
            least = np.partition(scores[found], -RESULTS)[-RESULTS]
            found = found[scores[found] >= least]
        order = np.lexsort((self._asins[found], -scores[found]))[:RESULTS]
        return tuple(self._asins[found[order]].tolist())
