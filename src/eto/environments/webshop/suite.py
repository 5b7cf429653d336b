"""WebShop (Yao et al. 2022, arXiv:2207.01206): buy what an instruction asks for.

The original's texts, search, actions and reward without its web server, Java or models: a page is
written out directly. Over its own files or a generated shop.
"""

from __future__ import annotations

import random
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from eto.environments.toolkit.answers import written_answer
from eto.environments.toolkit.prompts import ONE_ACTION, Length, Style, check_forms, react_form
from eto.environments.toolkit.suite import Suite, options_of
from eto.environments.webshop.catalogue import build_catalogue, find_files, load_catalogue
from eto.environments.webshop.expert import find_purchase
from eto.environments.webshop.generated import generated_files
from eto.environments.webshop.goals import draw_prices, make_goals
from eto.environments.webshop.search import Index
from eto.environments.webshop.shop import Shop, WebShopEnvironment
from eto.environments.webshop.store import ByAsin, Catalogue
from eto.environments.webshop.tagger import load_tagger
from eto.errors import InputError
from eto.types import Message, Task

OFFICIAL = (500, 1000)
"""Goals of the test and the dev split, the first ones in the original's order; the rest is for training."""
_LONG = (
    "You shop online. Find the product that the instruction asks for, choose the options it names, and buy "
    "it; the closer the purchase, the higher your score, and the price limit counts. Each page is text, its "
    "parts set apart by [SEP]. Actions: search[words], on any page, and click[button] with "
    "the text of a button, a product's number or an option."
)
_SHORT = "You shop online. Actions: search[words] and click[button]."
_REACT = react_form("what you make of the page", "click[buy now]")
INSTRUCTIONS = {
    "act": {"short": _SHORT + ONE_ACTION, "long": _LONG + ONE_ACTION},
    "react": {"short": _SHORT + _REACT, "long": _LONG + _REACT},
}


class WebShop(Suite):
    """Task suite over the goals of a shop.

    data: directory with the original files (`items_shuffle*.json`, `items_ins_v2*.json`, and
        `items_human_ins.json` for human goals), plain or gzipped; None for a generated shop.
    products: number of products of the generated shop.
    goals: "synthetic" or "human" instructions.
    seed: of the generated shop, the prices drawn from ranges, and the goals' price limits.
    split: "official" (the first 500 goals are test, the next 1,000 dev), or "tenths" (a tenth each);
        "auto" takes the official one where it leaves goals to train on.
    style, prompt: "act" or "react" answers; "short" or "long" instruction.
    tagger: of title nouns, see `eto.environments.webshop.tagger`.
    success: reward from which a purchase counts as a success.

    Raises `InputError` for a bad option or file, `MissingRequirement` for a tagger not installed.
    """

    name = "webshop"

    def __init__(
        self,
        data: str | None = None,
        products: int = 400,
        goals: Literal["synthetic", "human"] = "synthetic",
        seed: int = 0,
        split: Literal["auto", "official", "tenths"] = "auto",
        style: Style = "act",
        prompt: Length = "short",
        max_turns: int = 10,
        tagger: str = "auto",
        success: float = 1.0,
    ) -> None:
        self._options = options_of(locals())
        _check_options(self._options)
        self.style = style
        self._nouns = load_tagger(tagger)
        self._catalogue = _catalogue(self._options)
        draw = random.Random(seed)
        self._prices = draw_prices(self._catalogue, draw)
        self._goals = make_goals(self._catalogue, self._prices, goals, draw)
        if not self._goals:
            raise _bad("goals", f"no {goals} goal in these files", "use the other kind, or other files")

    @cached_property
    def _shop(self) -> Shop:
        products = self._catalogue.products
        prices = ByAsin(products, self._prices)
        return Shop(self._catalogue, Index(products), prices, self._goals, self._nouns)

    def tasks(self, split: str) -> list[Task]:
        """The goals of a split, in the original's order."""
        self._check_split(split)
        count = len(self._goals)
        official = self._options["split"] == "official"
        if self._options["split"] == "auto":
            official = count > sum(OFFICIAL)
        test, dev = OFFICIAL if official else (count // 10, count // 10)
        first, last = {"test": (0, test), "dev": (test, test + dev), "train": (test + dev, count)}[split]
        kinds = self._goals.categories(first, last)
        prefix = f"{self.name}/{self._options['goals']}"
        return [
            Task(f"{prefix}/{number}", self.name, kind, split, {"goal": number})
            for number, kind in enumerate(kinds, first)
        ]

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        instruction = INSTRUCTIONS[self.style][self._options["prompt"]]
        return Message("system", instruction), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self._options["max_turns"]

    def environment(self) -> WebShopEnvironment:
        return WebShopEnvironment(self._shop, self._options["success"], self.style)

    def expert_actions(self, task: Task, environment: WebShopEnvironment) -> list[str] | None:
        """Search, look through the results, choose, buy; None where the product is not found."""
        plan = find_purchase(self._goals[task.payload["goal"]], environment, task)
        if plan is None:
            return None
        if self.style == "act":
            return [action for _, action in plan]
        return [written_answer(thought, action) for thought, action in plan]


def _catalogue(options: dict[str, Any]) -> Catalogue:
    if options["data"] is not None:
        return load_catalogue(find_files(Path(options["data"]).expanduser()))
    items, instructions = generated_files(options["products"], options["seed"])
    return build_catalogue(items, instructions, {}, where="generated shop")


def _check_options(options: dict[str, Any]) -> None:
    choices = {
        "goals": ("synthetic", "human"),
        "split": ("auto", "official", "tenths"),
    }
    for name, known in choices.items():
        if options[name] not in known:
            raise _bad(name, f"unknown choice {options[name]!r}", f"one of {', '.join(known)}")
    check_forms(options, "webshop")
    if options["goals"] == "human" and options["data"] is None:
        raise _bad(
            "goals", "a generated shop has no human goals", "name the original files' directory: data=..."
        )
    for name, least in {"products": 20, "max_turns": 1}.items():
        if options[name] < least:
            raise _bad(name, f"{options[name]} is too small", f"at least {least}")
    if not 0 < options["success"] <= 1:
        raise _bad("success", f"{options['success']} is not a reward", "a number above 0, up to 1")


def _bad(option: str, problem: str, hint: str) -> InputError:
    return InputError(problem, where=f"webshop.{option}", hint=hint)
