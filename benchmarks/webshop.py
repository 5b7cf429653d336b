"""WebShop: pages a second on one core, seconds to load a shop, and how often its expert buys right.

No contestant: the original needs Java, a web server and models that pip does not bring. The targets are
absolute. A shop of 1,000 generated products; with `ETO_WEBSHOP_DATA`, the original files in that
directory instead.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

from benchmarks.frame import Outcome, Ratio, Row, alternate, rows
from eto.environments import load_suite
from eto.types import Task

PRODUCTS = 1000
TASKS = 200
TURNS = 10
DATA = "ETO_WEBSHOP_DATA"


def run(quick: bool) -> Outcome:
    data = os.environ.get(DATA)
    options: dict[str, Any] = {"data": data} if data else {"products": PRODUCTS}
    suite = load_suite("webshop", **options)
    tasks = suite.tasks("train")
    tasks = tasks[:: max(1, len(tasks) // (20 if quick else TASKS))]
    repetitions = 1 if quick else 5
    loaded = alternate({"eto": lambda: seconds_to_load(options)}, repetitions)
    # A new customer for every repetition, but one shop: searches asked before are remembered.
    steps = alternate({"eto": lambda: steps_a_second(suite, tasks)}, repetitions, warm_up=1)
    fresh = steps_a_second(load_suite("webshop", **options), tasks)
    found, full = expert_success(suite, tasks)
    outcome = Outcome(
        title="WebShop",
        setting=f"{len(suite._catalogue.products)} products {'of the original' if data else 'generated'}; "
        f"{len(tasks)} training tasks, up to {TURNS} random actions each that the page offers, one thread.",
        rows=rows(steps, "steps/s")
        + rows(loaded, "s to load")
        + [
            Row("eto, no search asked before", "steps/s", fresh, fresh, fresh, 1),
            Row("expert", "% of tasks found", found, found, found, 1),
            Row("expert", "% of those with reward 1", full, full, full, 1),
        ],
        same="the original's answers to the same actions are compared in the tests.",
    )
    [figures], [seconds] = steps.values(), loaded.values()
    outcome.ratios = [
        Ratio("steps/s", sorted(figures)[len(figures) // 2], 2000),
        Ratio("steps/s, no search asked before", fresh, 2000),
        Ratio("seconds to load", sorted(seconds)[len(seconds) // 2], 2, at_most=True),
    ]
    return outcome


def seconds_to_load(options: dict[str, Any]) -> float:
    """From nothing to the first page."""
    begun = time.perf_counter()
    suite = load_suite("webshop", **options)
    suite.environment().reset(suite.tasks("train")[0])
    return time.perf_counter() - begun


def steps_a_second(suite: Any, tasks: list[Task]) -> float:
    """Random play: a search for the product's kind, then anything that can be clicked."""
    draw, environment, count = random.Random(0), suite.environment(), 0
    begun = time.perf_counter()
    for task in tasks:
        words = environment.reset(task).split(" [SEP] ")[2]
        for _ in range(TURNS):
            button = draw.choice(environment.clickables())
            step = environment.step(f"search[{words}]" if button == "search" else f"click[{button}]")
            count += 1
            if step.terminated:
                break
    return count / (time.perf_counter() - begun)


def expert_success(suite: Any, tasks: list[Task]) -> tuple[float, float]:
    """Per cent of tasks whose product the expert finds, and of those, with the full reward."""
    environment, rewards = suite.environment(), []
    for task in tasks:
        actions = suite.expert_actions(task, environment)
        if actions:
            environment.reset(task)
            rewards.append([environment.step(action) for action in actions][-1].reward)
    return 100 * len(rewards) / len(tasks), 100 * sum(r == 1 for r in rewards) / max(1, len(rewards))
