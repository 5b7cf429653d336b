"""A product of the shop, read as the original reads the items of its files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_ASIN = 10
NO_PRICE = 100.0
"""What a product without a price costs, as in the original."""
NO_ATTRIBUTE = "DUMMY_ATTR"
_NOT_A_NUMBER = re.compile(r"[^\d.]")


@dataclass(frozen=True, slots=True)
class Product:
    """What the shop shows of a product, and what its reward is computed from."""

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price_tag: str
    prices: tuple[float, ...]
    """One price, or the lowest and the highest."""
    options: Mapping[str, tuple[str, ...]]
    """Values by the option's name, all in lower case."""
    category: str
    query: str
    product_category: str
    attributes: tuple[str, ...] = (NO_ATTRIBUTE,)
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()
    human: tuple[Mapping[str, Any], ...] = ()
    """Entries of `items_human_ins.json`."""


def to_json(product: Product) -> str:
    """For `from_json`."""
    return json.dumps([getattr(product, name) for name in Product.__slots__])


def from_json(text: str) -> Product:
    """The same product, its sequences tuples again."""
    fields = dict(zip(Product.__slots__, json.loads(text), strict=True))
    for name in ("bullets", "prices", "attributes", "instruction_attributes", "human"):
        fields[name] = tuple(fields[name])
    fields["options"] = {name: tuple(values) for name, values in fields["options"].items()}
    return Product(**fields)


def read_product(item: Mapping[str, Any], extra: Any, human: Any, skipped: Counter[str]) -> Product:
    """A product of `items_shuffle*.json`; what had to be repaired is counted in `skipped`.

    extra, human: what `items_ins_v2*.json` and `items_human_ins.json` say of it, or None.
    """
    extra = extra if isinstance(extra, dict) else {}
    attributes = extra.get("attributes")
    bullets = item.get("small_description")
    prices = _prices(item.get("pricing"), skipped)
    return Product(
        asin=item["asin"],
        title=item["name"],
        description=_text(item.get("full_description")),
        bullets=tuple(map(_text, bullets)) if isinstance(bullets, list) else (_text(bullets),),
        price_tag=" to ".join(f"${price}" for price in prices),
        prices=prices,
        options=_options(item.get("customization_options"), skipped),
        category=_text(item.get("category")),
        query=_text(item.get("query")).lower().strip(),
        product_category=_text(item.get("product_category")),
        attributes=tuple(attributes) if isinstance(attributes, list) else (NO_ATTRIBUTE,),
        instruction=extra.get("instruction"),
        instruction_attributes=tuple(extra.get("instruction_attributes") or ()),
        human=tuple(entry for entry in human if isinstance(entry, dict)) if isinstance(human, list) else (),
    )


def _prices(pricing: Any, skipped: Counter[str]) -> tuple[float, ...]:
    """Of "$12.5" or "$9.99 to $1,200"; `NO_PRICE` where there is none."""
    prices = []
    for part in _text(pricing).split("$")[1:]:
        try:
            prices.append(float(_NOT_A_NUMBER.sub("", part)))
        except ValueError:
            skipped["prices that cannot be read"] += 1
    if not prices:
        skipped["products without a price, taken as 100 dollars"] += 1
    return tuple(prices[:2]) or (NO_PRICE,)


def _options(given: Any, skipped: Counter[str]) -> dict[str, tuple[str, ...]]:
    options: dict[str, tuple[str, ...]] = {}
    for name, values in given.items() if isinstance(given, dict) else ():
        if values is None:
            continue
        if not isinstance(values, list):
            skipped["options that are not a list"] += 1
            continue
        texts = [each.get("value") if isinstance(each, dict) else None for each in values]
        skipped["option values that are not text"] += sum(not isinstance(text, str) for text in texts)
        usable = [text.strip().replace("/", " | ").lower() for text in texts if isinstance(text, str)]
        options[name.lower()] = tuple(usable)
    skipped += Counter()  # drops zeros
    return options


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
