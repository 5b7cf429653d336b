"""WebShop's reward of a purchase (Yao et al. 2022, section 3.2 and appendix).

reward = r_type * (attributes met + options met + [price within the limit])
         / (attributes + options + 1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, utils

from eto.environments.webshop.goals import Goal
from eto.environments.webshop.products import Product

SIMILAR = 85
"""Token set ratio above which two texts are taken for the same."""
COLORS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown "
    "burgundy camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac "
    "copper coral cranberry cream crystal dark denim eggplant elephant espresso fuchsia gold granite "
    "grape graphite grass gray green grey heather indigo ivory ivy khaki lavender lemon leopard light "
    "lilac lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom mustard natural navy "
    "nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand sapphire seashell "
    "silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut "
    "wheat white wine yellow"
).split()
"""An option that contains one of these is read as the first of them."""

Tagger = Callable[[str], list[str]]
"""The nouns of a title, in lower case."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward and its parts."""

    total: float
    r_type: float
    r_att: float | None
    """None where the goal names no attribute."""
    r_option: float | None
    """None where the goal names no option."""
    r_price: bool
    title_score: float
    """Share of the wanted title's nouns that the purchased one has."""
    query_match: bool
    category_match: bool


def purchase_reward(
    product: Product, goal: Goal, price: float, options: Mapping[str, str], nouns: Tagger
) -> Reward:
    """The reward, in [0, 1], of buying `product` at `price` with `options` chosen."""
    query_match = product.query == goal.query
    category_match = len(_path(product.product_category) & _path(goal.product_category)) >= 2
    title_score = _title_score(nouns(product.title), nouns(goal.title))
    r_type = _type_reward(query_match or category_match or title_score > 0.2, title_score)
    attributes = sum(_has_attribute(product, attribute) for attribute in goal.attributes)
    wanted = _option_texts(goal)
    chosen = sum(_chosen(text, options.values()) for text in wanted)
    within = price <= goal.price_upper
    total = (attributes + chosen + within) / (len(goal.attributes) + len(wanted) + 1) * r_type
    return Reward(
        total=total,
        r_type=r_type,
        r_att=attributes / len(goal.attributes) if goal.attributes else None,
        r_option=chosen / len(wanted) if wanted else None,
        r_price=within,
        title_score=title_score,
        query_match=query_match,
        category_match=category_match,
    )


def _type_reward(match: bool, title_score: float) -> float:
    if title_score == 0:
        return 0.0
    if title_score < 0.1:
        return 0.1
    return 1.0 if match else 0.5


def _title_score(purchased: list[str], wanted: list[str]) -> float:
    if not wanted:
        return 0.2
    return len(set(purchased) & set(wanted)) / len(wanted)


def _path(product_category: str) -> set[str]:
    return {part.strip() for part in product_category.split("\u203a")}


def _has_attribute(product: Product, attribute: str) -> bool:
    if any(_similar(own, attribute) for own in product.attributes):
        return True
    texts = (product.title, " ".join(product.bullets), product.description)
    return any(attribute in text.lower() for text in texts)


def _option_texts(goal: Goal) -> list[str]:
    """What chosen options are compared with.

    The original hands a synthetic goal's options over as pairs of name and value, so that its
    comparison sees both words, unless the value is exactly a colour; values of people's goals are
    taken alone, as the first colour they contain. Kept, as it decides rewards.
    """
    if not isinstance(goal.options, Mapping):
        return [_plain_color(value) for value in goal.options]
    pairs = goal.options.items()
    return [next((color for color in COLORS if color in pair), str(pair)) for pair in pairs]


def _chosen(wanted: str, options: Iterable[str]) -> bool:
    return any(_similar(_plain_color(option), wanted) for option in options)


def _plain_color(option: str) -> str:
    return next((color for color in COLORS if color in option), option)


@lru_cache(100_000)
def _similar(one: str, other: str) -> bool:
    """As the original compares: ASCII characters alone, and the ratio rounded."""
    texts = (utils.default_process(text.encode("ascii", "ignore").decode()) for text in (one, other))
    return round(fuzz.token_set_ratio(*texts)) > SIMILAR
