"""What limits an exploration on 1, 8, 64 and 1,000 workers: `python -m benchmarks.scale`.

A simulation of discrete events, pure Python; it takes a second and plays nothing. A worker is one replica
of the model with `--slots` episodes at once and `--simulators` processes of environments. One driver owns
the store and sits between every action and its answer, as in `eto.rollout` and `eto.data.store`:

    engine of the worker -> driver -> simulator of the worker -> driver -> ... -> store

The engine decodes all its episodes together: a step takes as long as reading the weights. A simulator
answers one action at a time, in times that are spread like a log-normal. Before it begins, each worker gets
the weights, over links of its own or one after the other from one source.

    python -m benchmarks.scale --workers 8 64 1000 --step-seconds 0.01 --store-ms 1.5
    python -m benchmarks.scale --measure   # the driver's and the store's milliseconds on this machine
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One exploration; times in seconds."""

    workers: int = 8
    tasks: int = 3321
    """Episodes. ALFWorld's training tasks."""
    slots: int = 8
    """Episodes at once of one worker."""
    simulators: int = 2
    """Processes of environments of one worker."""
    turns: float = 14.4
    """Mean of an episode. ScienceWorld's experts (ETO, section 4.1)."""
    most_turns: int = 60
    tokens: int = 60
    """Of an action, thoughts included. Assumed."""
    decode: float = 0.0133
    """One step of decoding, whatever the episodes. 7B in bf16: 13.5 GB at half of 2,039 GB a second."""
    step: float = 0.022
    """Mean answer of a simulator: ScienceWorld, 91.6 steps a second of two processes (docs/speed.md)."""
    reset: float = 0.107
    """Start of an episode (docs/speed.md)."""
    spread: float = 1.0
    """Of the logarithm of a simulator's times. Assumed."""
    driver: float = 0.0006
    """The driver's processor time for one turn. Measured, `--measure`."""
    store: float = 0.012
    """One episode into the store, an fsync included. Measured, `--measure`, on a busy machine."""
    weights: float = 13.5e9
    """Bytes that each worker gets before it begins."""
    link: float = 1.25e9
    """Bytes a second of the source's link: 10 Gbit/s."""
    relayed: bool = False
    """Workers that have the weights pass them on; else the source sends to each."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulated exploration came to; times in seconds."""

    shipping: float
    playing: float
    driver: float
    """Share of playing in which the driver was busy, the store's time included."""
    store: float
    """Share of playing in which the store was."""
    simulators: float
    """Mean share of playing in which a simulator was busy."""
    half_empty: float
    """Share of playing in which fewer than half of the places for episodes were taken."""

    @property
    def seconds(self) -> float:
        return self.shipping + self.playing


def shipping_seconds(setting: Setting) -> float:
    """From one source to every worker: one after the other, or doubling with each round where relayed."""
    once = setting.weights / setting.link
    return once * (math.ceil(math.log2(setting.workers + 1)) if setting.relayed else setting.workers)


class _Exploration:
    """Queues of the driver and the simulators, and when each is free again."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.random = setting, random.Random(seed)
        self.driver_free = self.driver_busy = self.store_busy = 0.0
        self.free = [0.0] * (setting.workers * setting.simulators)
        self.busy = 0.0
        self.drift = -(setting.spread**2) / 2  # so that the mean is 1
        # Turns beyond the first are geometric: long episodes are few and decide the end.
        self.more = 1 - 1 / max(1.0, setting.turns)

    def turns(self) -> int:
        count = 1
        while count < self.setting.most_turns and self.random.random() < self.more:
            count += 1
        return count

    def drive(self, now: float, seconds: float) -> float:
        """The driver works `seconds` once it is free; returns when it is done."""
        start = max(now, self.driver_free)
        self.driver_free = start + seconds
        self.driver_busy += seconds
        return self.driver_free

    def simulate(self, now: float, place: int, mean: float) -> float:
        """The simulator of a place for an episode answers once it is free."""
        setting = self.setting
        worker, slot = divmod(place, setting.slots)
        number = worker * setting.simulators + slot % setting.simulators
        seconds = mean * self.random.lognormvariate(self.drift, setting.spread)
        start = max(now, self.free[number])
        self.free[number] = start + seconds
        self.busy += seconds
        return start + seconds


def simulate(setting: Setting, seed: int = 0) -> Outcome:
    """One exploration, event by event."""
    world = _Exploration(setting, seed)
    places = setting.workers * setting.slots
    waiting = setting.tasks
    act = setting.tokens * setting.decode
    events: list[tuple[float, int, int]] = []  # (when it reaches the driver, place, turns left)

    def answered(now: float, place: int, left: int) -> None:
        heapq.heappush(events, (now + act if left else now, place, left))

    def begin(place: int, now: float) -> None:
        nonlocal waiting
        waiting -= 1
        answered(world.simulate(now, place, setting.reset), place, world.turns())

    for place in range(min(places, setting.tasks)):
        begin(place, 0.0)
    playing = len(events)
    low_since = 0.0 if playing < places / 2 else None
    end = 0.0
    while events:
        now, place, left = heapq.heappop(events)
        if left:
            asked = world.drive(now, setting.driver)
            answered(world.simulate(asked, place, setting.step), place, left - 1)
            continue
        world.store_busy += setting.store
        end = max(end, world.drive(now, setting.store))
        if waiting:
            begin(place, end)
        else:
            playing -= 1
            if playing < places / 2 and low_since is None:
                low_since = end
    low = end - low_since if low_since is not None else 0.0
    return Outcome(
        shipping=shipping_seconds(setting),
        playing=end,
        driver=world.driver_busy / end,
        store=world.store_busy / end,
        simulators=world.busy / (end * len(world.free)),
        half_empty=low / end,
    )


def bound(setting: Setting) -> dict[str, float]:
    """Seconds that each part alone needs for all episodes: the largest limits, as long as all places are
    taken."""
    turns = setting.tasks * setting.turns
    places = setting.workers * setting.slots
    return {
        "engines": turns * setting.tokens * setting.decode / places,
        "simulators": (turns * setting.step + setting.tasks * setting.reset)
        / (setting.workers * setting.simulators),
        "driver": turns * setting.driver + setting.tasks * setting.store,
        "longest episode": setting.most_turns * (setting.tokens * setting.decode + setting.step),
        "weights": shipping_seconds(setting),
    }


class _Fixed:
    """An engine that always writes the same."""

    max_context = 100_000

    def __init__(self, ids: list[int]) -> None:
        self._ids = tuple(ids)

    async def generate(self, ids: Sequence[int], sampling: Any, *, session: str | None = None) -> Any:
        from eto.protocols import Completion

        return Completion(self._ids, (0.0,) * len(self._ids), "stop")

    async def release(self, session: str) -> None:
        """Nothing is cached."""


def measure() -> tuple[float, float]:
    """Seconds of the driver's processor time a turn, and of adding an episode to a store, on this machine."""
    import tempfile
    from pathlib import Path

    import eto
    from eto.data.store import TrajectoryStore
    from eto.engines.actor import Actor
    from eto.environments import load_suite
    from eto.rollout.rollouts import stream_rollouts
    from eto.settings import EnvironmentLimits, RolloutSettings
    from eto.tokens.rendering import Renderer
    from eto.types import Phase

    renderer: Renderer = eto.load_learner("embedded").renderer
    suite = load_suite("bandit", horizon=20)
    tasks = suite.tasks("train")[:40]
    actor = Actor(_Fixed(renderer.action_ids("pull the first arm")), renderer, "fixed")
    with tempfile.TemporaryDirectory() as place:
        begun = time.process_time()
        played = list(
            stream_rollouts(actor, suite, tasks, settings=RolloutSettings(), limits=EnvironmentLimits())
        )
        turn = (time.process_time() - begun) / sum(len(each.turns) for each in played)
        with TrajectoryStore(Path(place) / "episodes.sqlite") as store:
            begun = time.perf_counter()
            for each in played:
                store.add(Phase.explore(1), each)
            added = (time.perf_counter() - begun) / len(played)
    return turn, added


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="What limits an exploration on many workers."
    )
    given = Setting()
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64, 1000])
    parser.add_argument("--relayed", action="store_true", help="workers pass the weights on")
    parser.add_argument("--measure", action="store_true", help="the driver's and the store's time here")
    for name in ("tasks", "slots", "simulators", "tokens"):
        parser.add_argument(f"--{name}", type=int, default=getattr(given, name))
    for name in ("decode", "step", "driver", "store"):
        parser.add_argument(f"--{name}-ms", type=float, default=1000 * getattr(given, name))
    chosen = parser.parse_args()
    if chosen.measure:
        turn, added = measure()
        print(f"driver {1000 * turn:.2f} ms a turn, store {1000 * added:.2f} ms an episode")
        return
    numbers = {name: getattr(chosen, name) for name in ("tasks", "slots", "simulators", "tokens", "relayed")}
    numbers |= {name: getattr(chosen, f"{name}_ms") / 1000 for name in ("decode", "step", "driver", "store")}
    print(table([replace(given, workers=workers, **numbers) for workers in chosen.workers]))


def table(settings: list[Setting]) -> str:
    """Markdown, one row a setting."""
    names = ("workers", "weights s", "playing s", "episodes/min", "driver busy", "simulators busy")
    names += ("half empty", "limit")
    rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for setting in settings:
        found, parts = simulate(setting), bound(setting)
        limit = max(parts, key=parts.__getitem__)
        rows.append(
            f"| {setting.workers} | {found.shipping:.0f} | {found.playing:.0f} "
            f"| {60 * setting.tasks / found.seconds:.0f} | {found.driver:.0%} | {found.simulators:.0%} "
            f"| {found.half_empty:.0%} | {limit} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
