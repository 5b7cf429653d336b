"""WebShop with many products: time and memory to build its store, to open it, and searches a second.

    python -m benchmarks.webshop_size --products 200000

Writes generated products with invented descriptions in the original's schemas, as many as asked for, and
looks at two new processes: one that builds the store and one that opens it, as a worker does. Nothing stays
on disk. Memory is resident; pages of mapped files, which processes share, are part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

import psutil

from eto.environments import load_suite
from eto.environments.webshop.generated import generated_files

BLOCK = 5_000
"""Products made at a time."""
WORDS = 300_000
"""Of which descriptions are made, the n-th as often as 1 / n."""
LENGTH = 100
"""Words of a description."""
SEARCHES = 500
EPISODES = 200


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webshop_size", description=__doc__)
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--look", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(look(given.look)))
        return
    with tempfile.TemporaryDirectory(prefix="webshop-size-") as place:
        data = Path(place) / "data"
        write(data, given.products)
        size = sum(path.stat().st_size for path in data.iterdir()) / 1e6
        print(f"{given.products:,} products, {size:,.0f} MB of JSON", flush=True)
        environment = os.environ | {"ETO_CACHE": f"{place}/cache"}
        command = [sys.executable, "-m", "benchmarks.webshop_size", "--look", str(data)]
        for name in ("building", "opening"):
            told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            print(f"{name}:", flush=True)
            for what, figure in json.loads(told.stdout).items():
                print(f"    {what:38}{figure:12,.1f}")
        stored = sum(path.stat().st_size for path in Path(place, "cache").rglob("*") if path.is_file()) / 1e6
        print(f"{stored:,.0f} MB in the cache")


def write(data: Path, products: int) -> None:
    """Both files, block by block."""
    data.mkdir()
    draw = random.Random(0)
    weights = list(accumulate(1 / number for number in range(1, WORDS + 1)))
    words = [f"{draw.getrandbits(32):x}" for _ in range(WORDS)]
    with (data / "items_shuffle.json").open("w") as items, (data / "items_ins_v2.json").open("w") as told:
        items.write("[")
        told.write("{")
        for first in range(0, products, BLOCK):
            some, instructions = generated_files(min(BLOCK, products - first), seed=first)
            for item in some:
                description = draw.choices(words, cum_weights=weights, k=LENGTH)
                item["full_description"] += " " + " ".join(description)
            between = ",\n" if first else ""
            items.write(between + ",\n".join(map(json.dumps, some)))
            told.write(between + json.dumps(instructions)[1:-1])
        items.write("]")
        told.write("}")


def look(data: str) -> dict[str, float]:
    """What this process sees of the shop from start to end."""
    before = megabytes()
    begun = time.perf_counter()
    suite = load_suite("webshop", data=data, tagger="words")
    environment = suite.environment()
    loaded = time.perf_counter() - begun
    found = {"s to load": loaded, "MB before": before, "MB at the most, loading": peak()}
    found["MB, loaded"] = megabytes()
    goals, draw = suite._goals, random.Random(0)
    queries = [goals[draw.randrange(len(goals))].wanted.lower() for _ in range(SEARCHES)]
    begun = time.perf_counter()
    for query in queries:
        suite._shop.index.search(query)
    found["searches/s"] = SEARCHES / (time.perf_counter() - begun)
    tasks = suite.tasks("test")[:EPISODES]
    begun, steps = time.perf_counter(), 0
    for task in tasks:
        words = environment.reset(task).split(" [SEP] ")[2]
        for _ in range(10):
            button = draw.choice(environment.clickables())
            step = environment.step(f"search[{words}]" if button == "search" else f"click[{button}]")
            steps += 1
            if step.terminated:
                break
    found["steps/s, no search asked before"] = steps / (time.perf_counter() - begun)
    found["MB after these"] = megabytes()
    found["of it private"] = psutil.Process().memory_full_info().uss / 1e6
    found["goals"] = len(goals)
    return found


def megabytes() -> float:
    return psutil.Process().memory_info().rss / 1e6


def peak() -> float:
    """The largest resident set so far. Not of `getrusage`: that begins with the parent's."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
