"""Many episodes of one environment: does memory stay flat, is nothing left behind?

    python -m benchmarks.soak NAME [--episodes 2000] [--minutes 10] [OPTION=VALUE ...]

Every episode begins with an expert's first actions, where there is one, and goes on with actions nobody
understands. Memory is the resident set of the worker processes and all that they started, and of this
process by itself. A JVM fills its heap up to the cap before it gives anything back: judge one by a run that
is long enough, or set `heap_mb` low.

`gymnasium` plays `benchmarks.guess` where no `id` is given, `agentgym` a server over our WebShop where no
`address` is, and `countdown` the example, installed or not; `scienceworld-eto` needs its `indices`.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from eto.engines.scripted import scripted_actor
from eto.environments import load_suite, suite_names
from eto.environments.hosting.pool import EnvironmentPool
from eto.environments.hosting.process_memory import tree_mb
from eto.protocols import TaskSuite
from eto.rollout.experts import collect_experts
from eto.rollout.rollouts import rollouts
from eto.settings import RolloutSettings
from eto.types import Message

CHUNK = 50
"""Most episodes between two looks at the memory and the clock."""
EXPERTS = 50
GROWTH = 1.1
"""Last quarter over second quarter; the first one warms up."""
RANGES = {"train": [0, 200], "dev": [200, 220], "test": [220, 240]}
SERVED = ("webshop", {"products": 100, "tagger": "words"})
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "countdown"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=None, help="end earlier, after this long")
    given = parser.parse_args()
    options = dict(option.split("=", 1) for option in given.options)
    watch = Watch()
    with suite_to_soak(given.name, {k: yaml.safe_load(v) for k, v in options.items()}) as (suite, played):
        print(f"{given.name}: {soak(suite, played, given.episodes, given.minutes, watch)}", end="; ")
    left = watch.left_behind()
    print(f"left behind: {left or 'nothing'}")
    return int(bool(left) or watch.failed > 0 or watch.grew())


def soak(suite: TaskSuite, played: TaskSuite, episodes: int, minutes: float | None, watch: Watch) -> str:
    """Plays and looks; returns what came of it. `played`: the suite whose experts are imitated."""
    tasks = suite.tasks(suite.splits[0])
    own = played.tasks(played.splits[0])
    experts = collect_experts(played, own[:: max(1, len(own) // EXPERTS)])
    scripts = {expert.messages[-1].content: expert.actions for expert in experts}
    policy = scripted_actor(lambda messages: next_action(messages, scripts))
    settings, endless, done = RolloutSettings(slots=8), itertools.cycle(tasks), 0
    begun = time.monotonic()
    with EnvironmentPool(suite) as pool:
        while done < episodes and (minutes is None or time.monotonic() - begun < 60 * minutes):
            count = min(max(settings.slots, min(CHUNK, episodes // 20)), episodes - done)
            chunk = list(itertools.islice(endless, count))
            found = rollouts(policy, suite, chunk, settings=settings, pool=pool)
            watch.failed += sum(trajectory.failed for trajectory in found)
            done += count
            watch.look(f"{done} episodes, {time.monotonic() - begun:.0f} s")
    seconds = time.monotonic() - begun
    return f"{done} episodes in {seconds:.0f} s, {watch.failed} failed; {watch.summary()}"


class Watch:
    """Memory over time, and every process that was started."""

    def __init__(self) -> None:
        self._before = set(psutil.Process().children(recursive=True))
        self._started: set[psutil.Process] = set()
        self._workers: list[float] = []
        self._here: list[float] = []
        self.failed = 0

    def look(self, when: str) -> None:
        me = psutil.Process()
        self._started |= set(me.children(recursive=True)) - self._before
        self._here.append(me.memory_info().rss / 2**20)
        ours = [child for child in me.children() if child not in self._before]
        self._workers.append(sum(tree_mb(child.pid) for child in ours))
        here, workers = self._here[-1], self._workers[-1]
        print(f"    {when}: {workers:.0f} MB, {here:.0f} MB in this process", flush=True)

    def summary(self) -> str:
        (early, late), (first, last) = _quarters(self._workers), _quarters(self._here)
        text = f"{early:.0f} MB in the second quarter, {late:.0f} in the last"
        return f"{text}, at most {max(self._workers):.0f}; this process {first:.0f} and {last:.0f}"

    def grew(self) -> bool:
        return any(late > GROWTH * early for early, late in map(_quarters, (self._workers, self._here)))

    def left_behind(self) -> list[str]:
        """Processes of ours that still run after ten seconds, those whose parent has ended included."""
        self._started |= set(psutil.Process().children(recursive=True)) - self._before
        _, running = psutil.wait_procs(self._started, timeout=10)
        return [process.name() for process in running if process.status() != psutil.STATUS_ZOMBIE]


def _quarters(megabytes: list[float]) -> tuple[float, float]:
    quarter = max(1, len(megabytes) // 4)
    second = megabytes[quarter : 2 * quarter] or megabytes
    return statistics.median(second), statistics.median(megabytes[-quarter:])


@contextmanager
def suite_to_soak(name: str, options: dict[str, Any]) -> Iterator[tuple[TaskSuite, TaskSuite]]:
    """The suite and the one that knows its experts, with a server where it needs one."""
    if name == "countdown" and name not in suite_names():
        sys.path.insert(0, str(EXAMPLE))  # worker processes are given the same path
        from countdown import Countdown

        yield (Countdown(),) * 2
    elif name == "gymnasium" and "id" not in options:
        suite = load_suite(name, id="benchmarks.guess:Guess-v0", **(RANGES | options))
        yield suite, suite
    elif name == "agentgym" and "address" not in options:
        with serving(*SERVED) as address:
            yield load_suite(name, address=address, **(RANGES | options)), load_suite(SERVED[0], **SERVED[1])
    else:
        suite = load_suite(name, **options)
        yield suite, suite


@contextmanager
def serving(name: str, options: dict[str, Any]) -> Iterator[str]:
    """The address of `eto serve-environment` over a suite of ours."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [f"{option}={value}" for option, value in options.items()]
    command = [sys.executable, "-m", "eto", "serve-environment", name, *given, "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                if server.poll() is not None:
                    raise
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def next_action(messages: list[Message], scripts: dict[str, tuple[str, ...]]) -> str:
    """The expert's next action for this prompt, or nonsense; the last of an expert's is left out."""
    turn = sum(message.role == "assistant" for message in messages)
    first = next(message.content for message in messages if message.role == "user")
    actions = scripts.get(first, ())[:-1]
    return actions[turn] if turn < len(actions) else f"xyzzy {turn}"


if __name__ == "__main__":
    sys.exit(main())
