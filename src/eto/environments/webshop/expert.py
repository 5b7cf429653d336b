"""An expert that shops as a person would who knows which product is meant."""

from __future__ import annotations

from collections.abc import Iterator

from eto.environments.webshop.goals import Goal
from eto.environments.webshop.shop import WebShopEnvironment
from eto.types import Task

MOST_PAGES = 5
"""Pages of results a search has."""


def find_purchase(goal: Goal, environment: WebShopEnvironment, task: Task) -> list[tuple[str, str]] | None:
    """Thoughts and actions that buy `goal`'s product, not yet scored; None where it is not found.

    Plays in `environment`, which must be reset afterwards. Searches the instruction, without its price
    limit, then the wanted product's kind, and takes the search that lists the product first.
    """
    best: list[tuple[str, str]] | None = None
    for words in (goal.wanted, goal.query):
        environment.reset(task)
        steps = list(_find(goal, words, environment))
        if goal.asin.lower() in environment.clickables() and (best is None or len(steps) < len(best)):
            best = steps
    if best is None:
        return None
    best.append(("This one fits the instruction.", f"click[{goal.asin.lower()}]"))
    best += [(f"The instruction asks for {value}.", f"click[{value}]") for value in goal.option_values]
    return [*best, ("Everything is chosen.", "click[buy now]")]


def _find(goal: Goal, words: str, environment: WebShopEnvironment) -> Iterator[tuple[str, str]]:
    """The actions up to the page that lists the product, played as they are made."""
    # With an opening bracket or a line break in it, it would not be taken for a search.
    words = words.replace("[", " ").replace("\n", " ")
    move = ("I search for what is wanted.", f"search[{words}]")
    for _ in range(MOST_PAGES):
        yield move
        environment.step(f"Action: {move[1]}")  # readable in either style
        if goal.asin.lower() in environment.clickables():
            return
        move = ("None of these is meant.", "click[next >]")
