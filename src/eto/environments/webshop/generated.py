"""A shop made up from a seed, in the original files' schemas: for tests, tutorials and small runs."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of product: its names and possible attributes."""

    noun: str
    query: str
    category: str
    path: str
    attributes: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    price: tuple[int, int]


COLORS = ("black", "white", "navy", "forest green", "burgundy", "grey", "teal", "mustard")
SIZES = ("small", "medium", "large", "x-large")
KINDS = (
    Kind(
        "hooded sweatshirt",
        "women's sweatshirts",
        "fashion",
        "Clothing \u203a Women \u203a Tops \u203a Sweatshirts",
        ("machine wash", "long sleeve", "soft cotton", "loose fit", "kangaroo pocket", "fleece lined"),
        {"color": COLORS, "size": SIZES},
        (15, 60),
    ),
    Kind(
        "walking shoes",
        "men's walking shoes",
        "fashion",
        "Clothing \u203a Men \u203a Shoes \u203a Walking",
        ("rubber sole", "memory foam", "non slip", "arch support", "water resistant", "day comfort"),
        {"color": COLORS[:5], "size": ("8", "9", "10", "11", "12")},
        (25, 120),
    ),
    Kind(
        "desk lamp",
        "table lamps",
        "garden",
        "Home & Kitchen \u203a Lighting \u203a Lamps \u203a Desk Lamps",
        ("eye caring", "dimmable light", "flexible neck", "usb port", "energy saving", "metal base"),
        {"color": ("black", "silver", "white", "rose gold")},
        (12, 80),
    ),
    Kind(
        "storage ottoman",
        "ottomans",
        "garden",
        "Home & Kitchen \u203a Furniture \u203a Living Room Furniture \u203a Ottomans",
        ("easy assemble", "faux leather", "high density", "solid wood", "foot rest", "space saving"),
        {"color": ("brown", "grey", "cream", "navy"), "size": ("17 inch", "24 inch", "43 inch")},
        (30, 190),
    ),
    Kind(
        "bluetooth speaker",
        "portable speakers",
        "electronics",
        "Electronics \u203a Portable Audio \u203a Speakers \u203a Bluetooth Speakers",
        ("stereo sound", "long battery", "water proof", "hands free", "deep bass", "fast charging"),
        {"color": ("black", "red", "blue", "teal"), "style": ("single", "pair")},
        (18, 150),
    ),
    Kind(
        "camera tripod",
        "tripods & monopods",
        "electronics",
        "Electronics \u203a Camera \u203a Tripods \u203a Complete Tripods",
        ("quick release", "carbon fiber", "carry bag", "light weight", "ball head", "easy use"),
        {"size": ("50 inch", "60 inch", "72 inch")},
        (20, 140),
    ),
    Kind(
        "face moisturizer",
        "face moisturizers",
        "beauty",
        "Beauty \u203a Skin Care \u203a Face \u203a Moisturizers",
        ("cruelty free", "hyaluronic acid", "sensitive skin", "green tea", "fragrance free", "oil free"),
        {"size": ("1 ounce", "2 ounce", "4 ounce"), "scent": ("unscented", "lavender", "rose")},
        (8, 45),
    ),
    Kind(
        "trail mix",
        "snack mixes",
        "grocery",
        "Grocery \u203a Snacks \u203a Nuts & Seeds \u203a Trail Mix",
        ("gluten free", "low sodium", "non gmo", "high protein", "dairy free", "resealable bag"),
        {"flavor name": ("cranberry", "chocolate", "mango", "sea salt"), "size": ("pack of 1", "pack of 6")},
        (6, 40),
    ),
)
MAKERS = "Alder Brook Calder Dunmore Elver Fenwick Garnet Harrow Ister Juniper Kestrel Lowell".split()
LINES = "Classic Everyday Nordic Prime Summit Urban Vale Willow".split()


def generated_files(count: int, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """`count` products as in `items_shuffle.json`, and what `items_ins_v2.json` says of them."""
    draw = random.Random(seed)
    items, instructions = [], {}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        # Nine characters, however large the number: an asin may not be longer than ten.
        tail = "".join(draw.choices(string.ascii_uppercase + string.digits, k=4)) + f"{number:05d}"
        asin = "G" + tail[-9:]
        item, instruction = _product(kind, asin, draw)
        items.append(item)
        instructions[asin] = instruction
    draw.shuffle(items)
    return items, instructions


def _product(kind: Kind, asin: str, draw: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    attributes = draw.sample(kind.attributes, 3)
    maker, line = draw.choice(MAKERS), draw.choice(LINES)
    name = f"{maker} {line} {kind.noun.title()}, {attributes[0].title()}"
    price = draw.randint(*kind.price) - 0.01
    pricing = f"${price}" if draw.random() < 0.7 else f"${price} to ${round(price * 1.4, 2)}"
    options = {
        name.title(): [{"value": value, "image": None} for value in _some(values, draw)]
        for name, values in kind.options.items()
    }
    wanted = sorted(draw.sample(attributes, 2))
    item = {
        "asin": asin,
        "name": name,
        "full_description": f"The {line} {kind.noun} by {maker}. It has {attributes[1]} and {attributes[2]}.",
        "small_description": [f"{attribute.capitalize()}, made by {maker}." for attribute in attributes],
        "pricing": pricing,
        "customization_options": options,
        "product_category": kind.path,
        "category": kind.category,
        "query": kind.query,
        "images": [],
        "average_rating": "",
    }
    instruction = {
        "attributes": attributes,
        "instruction": f"Find me {wanted[0]} {kind.query} with {wanted[1]}",
        "instruction_attributes": wanted,
    }
    return item, instruction


def _some(values: tuple[str, ...], draw: random.Random) -> list[str]:
    """At least two of `values`, in their order."""
    chosen = set(draw.sample(values, draw.randint(2, len(values))))
    return [value for value in values if value in chosen]
