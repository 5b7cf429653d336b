"""WebShop's pages, click by click, as the original shows them, and the form of its actions."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest

from eto.environments.webshop.catalogue import build_catalogue
from eto.environments.webshop.goals import draw_prices, make_goals
from eto.environments.webshop.search import Index
from eto.environments.webshop.shop import Shop, WebShopEnvironment, parse_action
from eto.environments.webshop.store import ByAsin
from eto.environments.webshop.tagger import load_tagger
from eto.types import Task

TOLD = json.loads((Path(__file__).parent / "webshop_sessions.json").read_text(encoding="utf-8"))


@cache
def shop() -> Shop:
    catalogue = build_catalogue(TOLD["items"], TOLD["instructions"], {}, where="sessions")
    draw = random.Random(0)
    prices = draw_prices(catalogue, draw)
    goals = make_goals(catalogue, prices, "synthetic", draw)
    by_asin = ByAsin(catalogue.products, prices)
    return Shop(catalogue, Index(catalogue.products), by_asin, goals, load_tagger("words"))


def begin(goal: int) -> tuple[WebShopEnvironment, str]:
    environment = WebShopEnvironment(shop(), bought=1.0)
    first = environment.reset(Task(f"webshop/{goal}", "webshop", "", "train", {"goal": goal}))
    return environment, first


@pytest.mark.parametrize("session", TOLD["sessions"], ids=lambda session: session["name"])
def test_a_session_is_equal_turn_by_turn(session):
    [(_, start, _, _), *turns] = session["turns"]
    environment, first = begin(session["goal"])
    assert [first, environment.clickables()] == TOLD["pages"][start]
    for action, page, reward, done in turns:
        text, clickables = TOLD["pages"][page]
        step = environment.step(action)
        assert (step.observation, step.reward, step.terminated) == (text, reward, done), action
        assert environment.clickables() == clickables, action


def test_options_chosen_before_the_results_do_not_count():
    """What the difference is worth: with the option kept, the purchase would have 6 of 7 points."""
    rewards = {}
    for back in ("click[< prev]", "click[description]"):
        environment, _ = begin(
            next(s["goal"] for s in TOLD["sessions"] if s["name"].startswith("all options"))
        )
        for action in ("search[plain shirt]", "click[b0shirt001]", "click[black]", back):
            environment.step(action)
        again = "click[< prev]" if back == "click[description]" else "click[b0shirt001]"
        environment.step(again)
        rewards[back] = environment.step("click[buy now]").reward
    assert rewards == {"click[< prev]": 5 / 7, "click[description]": 6 / 7}


def test_nothing_follows_the_purchase():
    environment, _ = begin(0)
    for action in ("search[plain shirt]", "click[b0shirt001]", "click[buy now]"):
        bought = environment.step(action)
    after = environment.step("search[plain shirt]")
    assert (after.observation, after.reward, after.terminated) == (
        "The episode has ended.",
        bought.reward,
        True,
    )


def test_a_search_without_words_or_by_chance_finds_nothing():
    environment, _ = begin(0)
    for action in ("search[ ]", "search[the of]", "search[<r>]", "search[<a> soft cotton]", "search[<c>]"):
        assert "Page 1 (Total results: 0)" in environment.step(action).observation


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("search[red shoes]", ("search", "red shoes")),
        ("search[Red SHOES]", ("search", "Red SHOES")),
        ("search[live action: hero toys]", ("search", "live action: hero toys")),
        ("search[Action: hero toys]", ("search", "Action: hero toys")),
        ("Action: search[Action: hero toys]", ("search", "Action: hero toys")),
        ("Thought: Some live action: toys.\nAction: search[action: toys]", ("search", "action: toys")),
        ("Thought: Well. Action: search[live Action: toys]", ("search", "live Action: toys")),
        ("Thought: click[a] would do.\nAction: click[< Prev]", ("click", "< Prev")),
        ("Thought:\nI look.\n\nAction: \nclick[x]", ("click", "x")),
        ("Action:click[x]", ("click", "x")),
        (" click[x]\n", ("click", "x")),
        ("click[x] now", ("click", "x")),
        ("click[x]\nclick[y]", ("click", "x")),
        ("click[ spaced ]", ("click", " spaced ")),
        ("search[ ]", ("search", " ")),
        ("search[a]b]", ("search", "a]b")),
        ("search[a] click[b]", None),
        ("I do click[x]", None),
        ("click [x]", None),
        ("Click[x]", None),
        ("search[a [b] c]", None),
        ("search[a\nb]", None),
        ("search[]", None),
        ("click", None),
        ("click[x", None),
        ("", None),
    ],
)
def test_actions_are_taken_to_the_letter(text, wanted):
    assert parse_action(text) == wanted


def test_with_thoughts_an_action_needs_its_label():
    assert parse_action("click[x]", "react") is None
    assert parse_action("Action: click[x]", "react") == ("click", "x")
    assert parse_action("search[live action: hero toys]", "react") is None
