"""Ranked search over the products, as the original's: BM25.

The ranking is the environment's own behaviour, so near ties have to fall as they do there. Lucene
rounds document lengths to one byte; libraries that do not, `bm25s` among them, give the same ten
products in the same order for six of ten searches only.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eto.environments.webshop.products import Product
from eto.environments.webshop.store import Products
from eto.environments.webshop.words import analyse

RESULTS = 50
"""Products a search finds at the most."""
SEARCHES = 5_000
"""Searches whose results are remembered, some kilobytes each."""


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
        hits = np.flatnonzero(scores)
        if len(hits) > RESULTS:
            least = np.partition(scores[hits], -RESULTS)[-RESULTS]
            hits = hits[scores[hits] >= least]
        order = np.lexsort((self._asins[hits], -scores[hits]))[:RESULTS]
        return tuple(self._asins[hits[order]].tolist())
