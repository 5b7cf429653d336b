"""The shop: pages as the text the original shows, and what a click does on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eto.environments.toolkit.answers import spoken_action
from eto.environments.toolkit.suite import EpisodeEnvironment
from eto.environments.webshop.goals import Goal
from eto.environments.webshop.products import Product
from eto.environments.webshop.reward import Reward, Tagger, purchase_reward
from eto.environments.webshop.search import Index
from eto.environments.webshop.store import Catalogue
from eto.protocols import Step
from eto.types import Task

SEPARATOR = " [SEP] "
PER_PAGE = 10
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews")
UNLISTED_PAGE = "Attributes"
"""A page of a product that has no button; an option of that name leads there anyway."""
LISTS = {"<c>": "category", "<q>": "query"}
"""First words of a search that lists all products of a category or query instead."""
NO_LISTS = ("<r>", "<a>")
"""First words that have a meaning in the original which cannot be kept: chance, and an error."""
_ASCII_BLANKS = " \t\n\f\r"


@dataclass(frozen=True, slots=True)
class Shop:
    """All that the episodes of a process share."""

    catalogue: Catalogue
    index: Index
    prices: Mapping[str, float]
    goals: Sequence[Goal]
    nouns: Tagger


@dataclass(slots=True)
class Visit:
    """Where a customer stands. Each page of results begins a new one: nothing is chosen there."""

    page: str = "search"
    """search, results, item, one of `SUB_PAGES`, `UNLISTED_PAGE`, or done."""
    results: tuple[str, ...] = ()
    number: int = 1
    """Of the page of results."""
    product: Product | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def item(self) -> Product:
        """The product in view, on every page behind the results."""
        assert self.product is not None, self.page
        return self.product


def parse_action(text: str, style: str = "act") -> tuple[str, str] | None:
    """("search" or "click", its argument) where the action of an answer is `search[...]` or
    `click[...]`; None where it is not. See `eto.environments.toolkit.answers.spoken_action` for the action.

    Blanks around the action do not count. Else it is taken word for word, as the original does: the
    argument ends at the last `]` of the first line and begins behind the last `[` that leaves it a character,
    and all before that is the name.
    """
    line = spoken_action(text, style).strip().partition("\n")[0]
    last = line.rfind("]")
    first = line.rfind("[", 1, max(last - 1, 0))
    name = line[: max(first, 0)]
    return (name, line[first + 1 : last]) if name in ("search", "click") else None


class WebShopEnvironment(EpisodeEnvironment):
    """One customer at a time. Deterministic."""

    def __init__(self, shop: Shop, bought: float, style: str = "act") -> None:
        """`bought`: reward from which a purchase counts as a success; `style`: of answers."""
        self._shop, self._bought, self._style = shop, bought, style
        self._goal: Goal | None = None
        self._visit = Visit()
        self.reward: Reward | None = None
        """Parts of the reward, after the purchase."""

    def reset(self, task: Task) -> str:
        """The first page."""
        self._goal = self._shop.goals[task.payload["goal"]]
        self._visit, self.reward = Visit(), None
        self._last = Step(self._text(), 0.0, terminated=False, success=False, score=0.0)
        return self._last.observation

    def _act(self, action: str) -> Step:
        """What the page shows then; an action that it does not offer changes nothing."""
        verb, argument = parse_action(action, self._style) or ("", "")
        if verb == "search":
            self._visit = Visit(page="results", results=self._matching(argument.lower()))
        elif verb == "click":
            self._click(argument.lower())
        earned = self.reward.total if self.reward else 0.0
        done = self._visit.page == "done"
        success = done and earned >= self._bought
        return Step(self._text(), earned, terminated=done, success=success, score=earned)

    def close(self) -> None:
        self._last = self._goal = None

    def clickables(self) -> list[str]:
        """What can be clicked on this page, in lower case; `search` stands for the search field."""
        visit = self._visit
        if visit.page == "done":
            return []
        if visit.page == "search":
            return ["search"]
        if visit.page == "results":
            buttons = [BACK, *([PREVIOUS] if visit.number > 1 else []), NEXT, *self._shown()]
        elif visit.page == "item":
            values = [value for group in visit.item.options.values() for value in group]
            buttons = [BACK, PREVIOUS, *SUB_PAGES, BUY, *values]
        else:
            buttons = [BACK, PREVIOUS]
        return list(dict.fromkeys(button.lower() for button in buttons))

    def _matching(self, words: str) -> tuple[str, ...]:
        first, *others = words.split(" ")
        if first in LISTS:
            # Of a category, the original reads one word alone.
            wanted = " ".join(others[:1] if first == "<c>" else others).strip()
            return self._shop.catalogue.products.listed(LISTS[first], wanted)
        return () if first in NO_LISTS else self._shop.index.search(words)

    # -- clicks ---------------------------------------------------------------------------

    def _click(self, name: str) -> None:
        if name == "search" or name not in self.clickables():
            return
        visit = self._visit
        if name == BACK.lower():
            self._visit = Visit()
        elif name == PREVIOUS.lower():
            self._go_back()
        elif visit.page == "results":
            self._click_in_results(name)
        elif name == BUY.lower():
            self._buy()
        elif page := next((page for page in (*SUB_PAGES, UNLISTED_PAGE) if page.lower() == name), None):
            visit.page = page
        else:
            # Where two groups have the same value, the last one takes it.
            groups = [group for group, values in visit.item.options.items() if name in values]
            visit.options[groups[-1]] = name

    def _click_in_results(self, name: str) -> None:
        visit = self._visit
        if name == NEXT.lower():
            self._turn_to(visit.number + 1)
        else:
            asin = next(asin for asin in self._shown() if asin.lower() == name)
            visit.page, visit.product = "item", self._shop.catalogue.by_asin[asin]

    def _go_back(self) -> None:
        visit = self._visit
        if visit.page == "results":
            self._turn_to(visit.number - 1)
        elif visit.page == "item":
            self._turn_to(visit.number)
        else:
            visit.page = "item"

    def _turn_to(self, number: int) -> None:
        """Show a page of the results again; what was chosen is forgotten."""
        self._visit = Visit(page="results", results=self._visit.results, number=number)

    def _buy(self) -> None:
        visit = self._visit
        visit.page = "done"
        self.reward = purchase_reward(
            visit.item, self._wanted(), self._shop.prices[visit.item.asin], visit.options, self._shop.nouns
        )

    # -- pages ----------------------------------------------------------------------------

    def _shown(self) -> tuple[str, ...]:
        start = (self._visit.number - 1) * PER_PAGE
        return self._visit.results[start : start + PER_PAGE]

    def _wanted(self) -> Goal:
        assert self._goal is not None, "step before reset"
        return self._goal

    def _text(self) -> str:
        visit = self._visit
        head = ["Instruction:", self._wanted().instruction]
        if visit.page == "search":
            parts = ["WebShop", *head, "Search"]
        elif visit.page == "results":
            parts = [*head, BACK, *self._results_page()]
        elif visit.page == "item":
            parts = [*head, BACK, PREVIOUS, *_item_page(visit.item)]
        elif visit.page == "done":
            assert self.reward is not None, "bought"
            parts = _receipt(visit.item.asin, visit.options, self.reward.total)
        else:
            parts = [*head, BACK, PREVIOUS, *_sub_page(visit.item, visit.page)]
        return SEPARATOR.join(shown for part in parts if (shown := part.strip()) or _is_empty_part(part))

    def _results_page(self) -> list[str]:
        visit = self._visit
        parts = [f"Page {visit.number} (Total results: {len(visit.results)})"]
        parts += [PREVIOUS, NEXT] if visit.number > 1 else [NEXT]
        for asin in self._shown():
            product = self._shop.catalogue.by_asin[asin]
            parts += [asin, product.title, product.price_tag]
        return parts


def _item_page(product: Product) -> list[str]:
    parts: list[str] = []
    for name, values in product.options.items():
        parts += [name, *values]
    return [*parts, product.title, f"Price: {product.price_tag}", "Rating: N.A.", *SUB_PAGES, BUY]


def _sub_page(product: Product, page: str) -> list[str]:
    if page == "Description":
        return [product.description]
    if page == "Features":
        return [f" {bullet}" for bullet in product.bullets]
    if page == UNLISTED_PAGE:
        attributes = [f" {attribute}" for attribute in product.attributes]
        return [*attributes, product.category, product.query, product.product_category]
    # The files have no reviews.
    return []


def _is_empty_part(blanks: str) -> bool:
    """Whether blanks are an empty part of a page, as the original's HTML parser has it: none at all are not,
    nor are ASCII's with a line break among them."""
    return bool(blanks.strip(_ASCII_BLANKS)) or ("\n" not in blanks and bool(blanks))


def _receipt(asin: str, options: Mapping[str, str], reward: float) -> list[str]:
    """The last page; the original shows nothing of the goal there, and escapes what HTML might read."""
    chosen = json.dumps(options, sort_keys=True)
    for letter in "<>&'":
        chosen = chosen.replace(letter, f"\\u{ord(letter):04x}")
    purchased = {"asin": asin, "options": chosen}
    purchased |= dict.fromkeys(("attrs", "category", "query", "product category"), "None")
    # sic: "instuction", as in the original.
    wanted = ["asin", "options", "attrs", "price upper", "instuction text", "category"]
    return [
        "Thank you for shopping with us!",
        *("Your code:", "None", "(Paste it in your MTurk interface.)"),
        "Purchased",
        *(text for pair in purchased.items() for text in pair),
        *("Target", *wanted, "product category", "query"),
        *("Goal", "None", "Reward", "Your score (min 0.0, max 1.0)", str(reward), "Reward Details", "None"),
    ]
