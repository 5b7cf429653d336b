"""Guesses of how an action continues, from the actions an agent has written, or was cloned on.

An agent repeats itself: it looks around, goes to the same rooms, closes with the same token. A
guess is checked by the model in the step that reads what came before it, and only tokens that the
model itself samples are taken, so actions and their distribution stay what they are (speculative
decoding, Leviathan et al. 2023, arXiv:2211.17192, with a table of n-grams as the draft model and
sampling that draws the target's own token). A right guess saves a step, a wrong one costs the
computation of a token.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

CONTEXTS = (8, 4, 2)
"""Tokens before the guessed one that are looked up, the longest known ones first."""
STEP_TOKENS = 32
"""What a step costs besides its tokens, in tokens: between an estimate of 25 and 45 measured (`LOG.md`)."""
MOST_CONTEXTS = 200_000
"""Contexts remembered; beyond it all are forgotten, to be learnt again."""


class NgramDrafter:
    """Next tokens seen after the last few tokens, in any conversation."""

    def __init__(self) -> None:
        self._next: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def learn(self, ids: Sequence[int], places: Iterable[int]) -> None:
        """The tokens of `ids` at `places` are an agent's."""
        if len(self._next) > MOST_CONTEXTS:
            self._next.clear()
        for at in places:
            for length in CONTEXTS:
                if at >= length:
                    self._next[tuple(ids[at - length : at])][ids[at]] += 1

    def guess(self, ids: Sequence[int], limit: int, batch: int) -> list[int]:
        """At most `limit` tokens that may follow `ids`, each likely enough to be worth its computation.

        With p the chance that all up to a token are right, it saves p/`batch` of a step for itself
        alone and wastes 1 - p of a token: worth it where p > `batch` / (`batch` + `STEP_TOKENS`).
        """
        least, chance = batch / (batch + STEP_TOKENS), 1.0
        recent: list[int] = list(ids[-max(CONTEXTS) :])
        guessed: list[int] = []
        while len(guessed) < limit:
            seen = self._known(recent)
            if seen is None:
                break
            [(token, times)] = seen.most_common(1)
            chance *= times / (seen.total() + 1)
            if chance <= least:
                break
            guessed.append(token)
            recent.append(token)
        return guessed

    def _known(self, recent: list[int]) -> Counter[int] | None:
        for length in CONTEXTS:
            if (seen := self._next.get(tuple(recent[-length:]))) is not None:
                return seen
        return None
