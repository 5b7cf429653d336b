"""What to buy: goals with their instruction, in the original's order."""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eto.environments.webshop.arrays import Arrays
from eto.environments.webshop.products import Product
from eto.environments.webshop.store import Catalogue
from eto.errors import InputError

KINDS = ("synthetic", "human")
LIMITS = tuple(10.0 * number for number in range(1, 100))
"""Price limits a goal may name, in dollars."""
NO_LIMIT = 1_000_000.0
MOST_GOALS = 100_000_000
"""Goals of a kind that are put in order, four bytes each."""
ORDER_SEED = 233
"""With which the original shuffles its goals; a goal's place after that is its number."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One instruction, and the product that fulfils it."""

    asin: str
    instruction: str
    wanted: str
    """The instruction without its price limit."""
    attributes: tuple[str, ...]
    options: Mapping[str, str] | Sequence[str]
    """By name where the goal is synthetic; people named values alone."""
    price_upper: float
    category: str
    query: str
    title: str
    product_category: str

    @property
    def option_values(self) -> list[str]:
        return list(self.options.values() if isinstance(self.options, Mapping) else self.options)


class GoalSources:
    """Takes the products one by one and writes where the goals of each kind come from.

    A source is a product's instruction or one that somebody wrote about it. Neither prices nor limits
    decide how many goals there are, so that their order is known before these are drawn.
    """

    def __init__(self) -> None:
        self._count = 0
        self._low, self._high = array("d"), array("d")
        self._rows = {kind: array("i") for kind in KINDS}
        self._entries = {kind: array("i") for kind in KINDS}
        self._goals = {kind: array("q") for kind in KINDS}

    def add(self, product: Product) -> None:
        """The next product."""
        self._low.append(product.prices[0])
        self._high.append(product.prices[1] if len(product.prices) > 1 else math.nan)
        if product.instruction is not None:
            combinations = math.prod(map(len, product.options.values()))
            self._source("synthetic", 0, min(combinations, MOST_GOALS + 1))
        for entry, instruction in enumerate(product.human):
            if instruction.get("instruction_attributes") and isinstance(instruction.get("instruction"), str):
                self._source("human", entry, 1)
        self._count += 1

    def _source(self, kind: str, entry: int, goals: int) -> None:
        self._rows[kind].append(self._count)
        self._entries[kind].append(entry)
        self._goals[kind].append(goals)

    def write(self, arrays: Arrays) -> None:
        """Write prices by product, and for each kind of goal: the product's row, the number among what
        people wrote and the goals up to its end, by source; and the goals in the original's order."""
        arrays["low_prices"], arrays["high_prices"] = np.array(self._low), np.array(self._high)
        for kind in KINDS:
            arrays[f"{kind}_rows"] = np.array(self._rows[kind], np.int32)
            arrays[f"{kind}_entries"] = np.array(self._entries[kind], np.int32)
            ends = np.cumsum(np.array(self._goals[kind], np.int64))
            arrays[f"{kind}_ends"] = ends
            count = int(ends[-1]) if len(ends) else 0
            # Who asks for the other kind need not suffer from too many of one.
            order = array("I", range(count if count <= MOST_GOALS else 0))
            random.Random(ORDER_SEED).shuffle(order)
            arrays[f"{kind}_order"] = np.frombuffer(order, np.uint32)


class Goals(Sequence[Goal]):
    """Goals by number, each made when it is asked for."""

    def __init__(self, catalogue: Catalogue, prices: Sequence[float], kind: str, draw: random.Random) -> None:
        self._products, self._human = catalogue.products, kind == "human"
        arrays = catalogue.products.arrays
        self._rows, self._entries = arrays[f"{kind}_rows"], arrays[f"{kind}_entries"]
        self._ends, self._order = arrays[f"{kind}_ends"], arrays[f"{kind}_order"]
        if len(self._ends) and self._ends[-1] > len(self._order):
            problem = f"more than {MOST_GOALS:,} {kind} goals: products with very many options"
            raise InputError(problem, where="webshop.goals", hint="use the other kind, or other files")
        self._limits = array("d", (_limit(prices[row], draw) for row in self._rows.tolist()))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> Goal:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = int(self._order[number])
        source = int(np.searchsorted(self._ends, place, side="right"))
        product, limit = self._products[int(self._rows[source])], self._limits[source]
        if self._human:
            return _human(product, int(self._entries[source]), limit)
        return _synthetic(product, place - int(self._ends[source]), limit)

    def categories(self, first: int, last: int) -> list[str]:
        """Of the products wanted by the goals `first` to `last` (without it)."""
        sources = np.searchsorted(self._ends, self._order[first:last], side="right")
        codes = self._products.arrays["categories"][self._rows[sources]]
        return [self._products.categories[code] for code in codes.tolist()]


def draw_prices(catalogue: Catalogue, draw: random.Random) -> array[float]:
    """What each product costs in dollars, by row; one price of a range is drawn between its ends."""
    arrays = catalogue.products.arrays
    prices, high = array("d", arrays["low_prices"].tobytes()), arrays["high_prices"]
    for row in np.flatnonzero(~np.isnan(high)).tolist():
        prices[row] = draw.uniform(prices[row], float(high[row]))
    return prices


def make_goals(catalogue: Catalogue, prices: Sequence[float], kind: str, draw: random.Random) -> Goals:
    """All goals, `synthetic` or `human`, in the original's order.

    prices: by row. The original draws the price limits without a seed; `draw` decides them here.
    Raises `InputError` where there are more than `MOST_GOALS`.
    """
    return Goals(catalogue, prices, kind, draw)


def _synthetic(product: Product, place: int, limit: float) -> Goal:
    """The goal at `place` among all combinations of the product's options; the last name's values turn
    fastest. Counted from the last combination where it is negative."""
    options: dict[str, str] = {}
    for name in sorted(product.options, reverse=True):
        values = product.options[name]
        place, value = divmod(place, len(values))
        options[name] = values[value]
    options = dict(reversed(options.items()))
    wording = ", and ".join(f"{name}: {value}" for name, value in options.items())
    instruction = product.instruction or ""
    wanted = f"{instruction} with {wording}" if wording else instruction
    return _goal(product, wanted, product.instruction_attributes, options, limit)


def _human(product: Product, entry: int, limit: float) -> Goal:
    """The goal of an instruction that somebody wrote about the product."""
    human = product.human[entry]
    options = tuple(human.get("instruction_options") or ())
    return _goal(product, human["instruction"].strip("."), human["instruction_attributes"], options, limit)


def _limit(price: float, draw: random.Random) -> float:
    """The larger of two of the next four multiples of ten dollars, or none."""
    first = bisect_right(LIMITS, price)
    above = LIMITS[first : first + 4]
    return max(draw.sample(above, 2)) if len(above) > 1 else NO_LIMIT


def _goal(product: Product, wanted: str, attributes: Sequence[str], options: Any, limit: float) -> Goal:
    limit_text = "" if limit == NO_LIMIT else f", and price lower than {limit:.2f} dollars"
    return Goal(
        asin=product.asin,
        instruction=wanted + limit_text,
        wanted=wanted,
        attributes=tuple(attributes),
        options=options,
        price_upper=limit,
        category=product.category,
        query=product.query,
        title=product.title,
        product_category=product.product_category,
    )
