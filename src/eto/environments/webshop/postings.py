"""Which documents hold which words, and how much each adds to a score: BM25, built in bounded memory.

Words are counted for some documents at a time; each such run is sorted and put away, and all are
merged in the order of the words.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from eto.environments.webshop.arrays import Arrays

K1, B = 0.9, 0.4
EXACT = 24
"""Document lengths below it are kept as they are."""
RUN = 2_000_000
"""Words of a run."""
BLOCK = 1_000_000
"""Pairs of word and document that are merged at a time, or those of one word where it has more."""
_WORD_BITS = 32
_ROW = (1 << _WORD_BITS) - 1


class Postings:
    """Takes documents one by one and writes what `eto.environments.webshop.search.Index` reads."""

    def __init__(self, arrays: Arrays) -> None:
        self.columns: dict[str, int] = {}
        """Number of each word, by first appearance."""
        self._arrays = arrays
        self._words, self._lengths = array("i"), array("i")
        self._done = self._runs = 0
        self._holding = np.zeros(0, np.int64)

    def add(self, words: Sequence[str]) -> None:
        """The words of the next document."""
        columns = self.columns
        self._words.extend([columns.setdefault(word, len(columns)) for word in words])
        self._lengths.append(len(words))
        if len(self._words) >= RUN:
            self._end_run()

    def write(self) -> None:
        """Write `rows` and `weights`: documents and what they gain, word after word; those of word `n` lie
        from `firsts[n]` to `firsts[n + 1]`."""
        self._end_run()
        firsts = np.concatenate(([0], np.cumsum(self._holding)))
        self._arrays["firsts"] = firsts
        pairs = int(firsts[-1])
        keys = (keys for keys, _ in self._merged(firsts))
        self._arrays.write("rows", np.int32, pairs, (keys & _ROW for keys in keys))
        self._arrays.write("weights", np.float32, pairs, self._weights(firsts))
        for run in range(self._runs):
            del self._arrays[f"keys{run}"], self._arrays[f"counts{run}"]

    def _end_run(self) -> None:
        lengths = self._lengths[self._done :]
        rows = np.repeat(np.arange(self._done, len(self._lengths)), lengths)
        keys = np.array(self._words, np.int64) << _WORD_BITS | rows
        keys, counts = np.unique(keys, return_counts=True)
        holding = np.bincount(keys >> _WORD_BITS, minlength=len(self.columns))
        holding[: len(self._holding)] += self._holding
        self._holding = holding
        self._arrays[f"keys{self._runs}"] = keys
        self._arrays[f"counts{self._runs}"] = counts.astype(np.int32)
        self._runs += 1
        self._done = len(self._lengths)
        self._words = array("i")

    def _merged(self, firsts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of word and document as one number each, ascending, and how often the one holds the other."""
        start = 0
        while start < len(self._holding):
            stop = max(start + 1, int(np.searchsorted(firsts, firsts[start] + BLOCK, side="right")) - 1)
            ends = np.array([start, stop]) << _WORD_BITS
            parts = []
            for run in range(self._runs):
                # Opened again each time, so that no more stays mapped than is looked at.
                run_keys = self._arrays[f"keys{run}"]
                part = slice(*np.searchsorted(run_keys, ends))
                parts.append((np.array(run_keys[part]), np.array(self._arrays[f"counts{run}"][part])))
            keys, counts = (np.concatenate(some) for some in zip(*parts, strict=True))
            order = np.argsort(keys, kind="stable")
            yield keys[order], counts[order]
            start = stop

    def _weights(self, firsts: np.ndarray) -> Iterator[np.ndarray]:
        """Lucene's BM25, in its arithmetic."""
        lengths = np.array(self._lengths, np.int64)
        documents, holding = len(lengths), self._holding
        rarity = np.log1p((documents - holding + 0.5) / (holding + 0.5)).astype(np.float32)
        scale = (1 / (K1 * (1 - B + B * _coarse(lengths) / lengths.mean()))).astype(np.float32)
        for keys, counts in self._merged(firsts):
            weight = rarity[keys >> _WORD_BITS]
            yield weight - weight / (1 + counts.astype(np.float32) * scale[keys & _ROW])


def _coarse(lengths: np.ndarray) -> np.ndarray:
    """Lengths as Lucene keeps them, in one byte each: exact below 24, then four significant bits."""
    above = np.maximum(lengths - EXACT, 0)
    unit = 2 ** np.maximum(np.floor(np.log2(np.maximum(above, 1))).astype(int) - 3, 0)
    return np.where(lengths < EXACT, lengths, EXACT + above // unit * unit)
