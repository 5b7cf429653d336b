"""Many episodes of one environment: does memory stay flat, is nothing left behind?

    python -m benchmarks.soak webshop --episodes 2000 [OPTION=VALUE ...]

Every episode begins with an expert's first actions, where there is one, and goes on with actions nobody
understands. Memory is the resident set of the worker processes and all that they started.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import psutil
import yaml

from eto.environments import load_suite
from eto.environments.pool import EnvironmentPool, collect_experts
from eto.policies.scripted import ScriptedPolicy
from eto.rollout.rollouts import RolloutSettings, rollouts
from eto.types import Message

SAMPLES = 40
"""Looks at the memory."""
GROWTH = 1.1
"""Last quarter over second quarter; the first one warms up."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    parser.add_argument("--episodes", type=int, default=2000)
    given = parser.parse_args()
    options = dict(option.split("=", 1) for option in given.options)
    suite = load_suite(given.name, **{name: yaml.safe_load(value) for name, value in options.items()})
    tasks = suite.tasks(suite.splits[0])
    experts = collect_experts(suite, tasks[:: max(1, len(tasks) // 50)])
    scripts = {expert.messages[-1].content: expert.actions for expert in experts}
    played = tasks[: given.episodes]
    settings, memory, ended = RolloutSettings(slots=8), [], []
    running = {child.pid for child in psutil.Process().children(recursive=True)}
    begun = time.monotonic()
    with EnvironmentPool(suite, settings.workers) as pool:

        def look(trajectory: object) -> None:
            ended.append(trajectory)
            if len(ended) % max(1, given.episodes // SAMPLES) == 0:
                memory.append(megabytes(running))
                print(f"    {len(ended)} episodes: {memory[-1]:.0f} MB", flush=True)

        policy = ScriptedPolicy(lambda messages: next_action(messages, scripts))
        rounds = -(-given.episodes // len(played))
        rollouts(policy, suite, played, samples=rounds, settings=settings, on_trajectory=look, pool=pool)
    time.sleep(1)
    left = [child.name() for child in psutil.Process().children(recursive=True) if child.pid not in running]
    quarter = max(1, len(memory) // 4)
    early = statistics.median(memory[quarter : 2 * quarter])
    late = statistics.median(memory[-quarter:])
    failed = sum(trajectory.failed for trajectory in ended)
    print(
        f"{given.name}: {len(ended)} episodes in {time.monotonic() - begun:.0f} s, {failed} failed; "
        f"{early:.0f} MB in the second quarter, {late:.0f} in the last; left behind: {left or 'nothing'}"
    )
    return int(bool(left) or failed > 0 or late > GROWTH * early)


def next_action(messages: list[Message], scripts: dict[str, tuple[str, ...]]) -> str:
    """The expert's next action for this prompt, or nonsense; the last of an expert's is left out."""
    turn = sum(message.role == "assistant" for message in messages)
    first = next(message.content for message in messages if message.role == "user")
    actions = scripts.get(first, ())[:-1]
    return actions[turn] if turn < len(actions) else f"xyzzy {turn}"


def megabytes(running: set[int]) -> float:
    """Of all processes started since."""
    children = [c for c in psutil.Process().children(recursive=True) if c.pid not in running]
    total = 0
    for child in children:
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


if __name__ == "__main__":
    sys.exit(main())
