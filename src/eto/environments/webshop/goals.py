"""What to buy: goals with their instruction, in the original's order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eto.environments.webshop.catalogue import Catalogue, Product

LIMITS = tuple(10.0 * number for number in range(1, 100))
"""Price limits a goal may name, in dollars."""
NO_LIMIT = 1_000_000.0
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


def draw_prices(catalogue: Catalogue, draw: random.Random) -> dict[str, float]:
    """What each product costs; one price of a range is drawn between its ends."""
    return {
        product.asin: draw.uniform(*product.prices) if len(product.prices) > 1 else product.prices[0]
        for product in catalogue.products
    }


def make_goals(
    catalogue: Catalogue, prices: Mapping[str, float], kind: str, draw: random.Random
) -> list[Goal]:
    """All goals, `synthetic` or `human`, in the original's order.

    The original draws the price limits without a seed; `draw` decides them here.
    """
    make = _synthetic if kind == "synthetic" else _human
    goals = [goal for product in catalogue.products for goal in make(product, prices[product.asin], draw)]
    random.Random(ORDER_SEED).shuffle(goals)
    return goals


def _synthetic(product: Product, price: float, draw: random.Random) -> Iterator[Goal]:
    """A goal for each combination of the product's options."""
    if product.instruction is None:
        return
    limit, limit_text = _limit(price, draw)
    names = sorted(product.options)
    for values in itertools.product(*(product.options[name] for name in names)):
        options = dict(zip(names, values, strict=True))
        told = ", and ".join(f"{name}: {value}" for name, value in options.items())
        wanted = f"{product.instruction} with {told}" if told else product.instruction
        yield _goal(product, wanted, limit_text, product.instruction_attributes, options, limit)


def _human(product: Product, price: float, draw: random.Random) -> Iterator[Goal]:
    """A goal for each instruction somebody wrote about the product."""
    for entry in product.human:
        attributes = tuple(entry.get("instruction_attributes") or ())
        if attributes and isinstance(entry.get("instruction"), str):
            limit, limit_text = _limit(price, draw)
            wanted = entry["instruction"].strip(".")
            options = tuple(entry.get("instruction_options") or ())
            yield _goal(product, wanted, limit_text, attributes, options, limit)


def _limit(price: float, draw: random.Random) -> tuple[float, str]:
    """The larger of two of the next four multiples of ten dollars, and how it is told."""
    above = [limit for limit in LIMITS if limit > price][:4]
    if len(above) < 2:
        return NO_LIMIT, ""
    limit = max(draw.sample(above, 2))
    return limit, f", and price lower than {limit:.2f} dollars"


def _goal(
    product: Product, wanted: str, limit_text: str, attributes: Sequence[str], options: Any, limit: float
) -> Goal:
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
