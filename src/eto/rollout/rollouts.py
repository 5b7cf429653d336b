"""Play many episodes at once: continuous admission, deadlines, retries.

An episode holds a slot until it ends; the next one is then admitted. While the actor writes for some
episodes, the simulators of others are working. An episode whose simulator hangs, dies, raises or breaks
its contract is started again once; after that it is returned with stop reason `environment_failed` and
the reason as its `detail`, which never counts as the agent's failure; one whose engine fails, with
`engine_failed`. A prompt that the model's context does not hold ends its episode without a turn, with
stop reason `out_of_tokens`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eto.engines.actor import Actor
from eto.environments.hosting.boundary import check_tasks
from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import InputError
from eto.protocols import TaskSuite
from eto.rollout.episode import episode_seed, play
from eto.rollout.simulators import Simulator
from eto.rollout.slots import stream
from eto.settings import EnvironmentLimits, RolloutSettings
from eto.settings.limits import Count, EpisodeSeed, NotNegative, check_values
from eto.types import Prefix, Task, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class _Job:
    task: Task
    sample: int
    prefix: Sequence[Turn] = ()
    prompt: str = ""


def rollouts(
    actor: Actor,
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    samples: Count = 1,
    temperature: NotNegative = 0.0,
    seed: EpisodeSeed = 0,
    settings: RolloutSettings | None = None,
    limits: EnvironmentLimits | None = None,
    prefixes: Mapping[str, Sequence[Turn]] | None = None,
    done: frozenset[tuple[str, int]] = frozenset(),
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """`samples` episodes of each task, in the order of (task, sample); see `stream_rollouts`."""
    order = {task.id: index for index, task in enumerate(tasks) if isinstance(task, Task)}
    played = stream_rollouts(
        actor,
        suite,
        tasks,
        samples=samples,
        temperature=temperature,
        seed=seed,
        settings=settings,
        limits=limits,
        prefixes=prefixes,
        done=done,
        pool=pool,
    )
    return sorted(played, key=lambda t: (order[t.task.id], t.sample))


def stream_rollouts(
    actor: Actor,
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    samples: Count = 1,
    temperature: NotNegative = 0.0,
    seed: EpisodeSeed = 0,
    settings: RolloutSettings | None = None,
    limits: EnvironmentLimits | None = None,
    prefixes: Mapping[str, Sequence[Turn]] | None = None,
    prompts: Mapping[tuple[str, int], str] | None = None,
    done: frozenset[tuple[str, int]] = frozenset(),
    pool: EnvironmentPool | None = None,
) -> Iterator[Trajectory]:
    """`samples` episodes of each task, each as it ends; its slot is used again when the next is asked for.

    temperature: 0 is greedy. seed: with task and sample it decides the seed of an episode, and nothing else
    does. prefixes: by task id, turns with which its episodes begin, see `play`. prompts: by task id and
    sample, what an episode's prompt ends with besides. done: (task id, sample) of episodes to leave out, for
    example those of an earlier, interrupted call. pool: simulators that stand already and stay; without it
    they are started for this call, within `limits`.

    Raises `InputError` for tasks that occur twice or whose id is not text.
    """
    given = {"samples": samples, "temperature": temperature, "seed": seed}
    check_values(stream_rollouts, given)
    check_tasks(tasks)
    jobs = [
        _Job(task, sample, (prefixes or {}).get(task.id, ()), (prompts or {}).get((task.id, sample), ""))
        for task in tasks
        for sample in range(samples)
    ]
    jobs = [job for job in jobs if (job.task.id, job.sample) not in done]
    return _stream(actor, suite, jobs, temperature, seed, settings, limits, pool)


def stream_continuations(
    actor: Actor,
    suite: TaskSuite,
    prefixes: Sequence[Prefix],
    *,
    samples: Count = 1,
    temperature: NotNegative = 0.0,
    seed: EpisodeSeed = 0,
    own_turns: Count | None = None,
    settings: RolloutSettings | None = None,
    limits: EnvironmentLimits | None = None,
    done: frozenset[tuple[str, int]] = frozenset(),
    pool: EnvironmentPool | None = None,
) -> Iterator[Trajectory]:
    """`samples` episodes from each prefix, each as it ends; arguments as of `stream_rollouts`.

    own_turns: most turns after the prefix; None: to the end of the episode.

    A task may have several prefixes: the k-th episode from its n-th prefix, both from 0, is its sample
    `n * samples + k`. Episodes of one prefix are admitted one after the other, so that an engine that caches
    keys and values passes the prefix once for those that play together.
    """
    given = {"samples": samples, "temperature": temperature, "seed": seed, "own_turns": own_turns}
    check_values(stream_continuations, given)
    check_tasks(list({prefix.task.id: prefix.task for prefix in prefixes}.values()))
    jobs = [
        _Job(prefix.task, sample, prefix.turns)
        for prefix, (task_id, numbers) in zip(prefixes, sample_numbers(prefixes, samples), strict=True)
        for sample in numbers
        if (task_id, sample) not in done
    ]
    return _stream(actor, suite, jobs, temperature, seed, settings, limits, pool, own_turns)


def sample_numbers(prefixes: Iterable[Prefix], samples: int) -> list[tuple[str, range]]:
    """For each prefix the id of its task and the sample numbers of its episodes (`stream_continuations`)."""
    seen: Counter[str] = Counter()
    numbers = []
    for prefix in prefixes:
        first = seen[prefix.task.id] * samples
        seen[prefix.task.id] += 1
        numbers.append((prefix.task.id, range(first, first + samples)))
    return numbers


def _stream(
    actor: Actor,
    suite: TaskSuite,
    jobs: Sequence[_Job],
    temperature: float,
    seed: int,
    settings: RolloutSettings | None,
    limits: EnvironmentLimits | None,
    pool: EnvironmentPool | None,
    own_turns: int | None = None,
) -> Iterator[Trajectory]:
    rules, limits = settings or RolloutSettings(), limits or EnvironmentLimits()
    check_action_room(rules.max_action_tokens, actor.engine.max_context)

    async def attempt(simulator: Simulator, job: _Job) -> Trajectory:
        seed_here = episode_seed(seed, job.task.id, job.sample)
        sampling = actor.sampling(rules.max_action_tokens, temperature, seed_here)
        retries = rules.retries
        told = actor.told(job.prompt)
        played = await play(
            told, simulator, job.task, sampling, job.prefix, retries=retries, own_turns=own_turns
        )
        return replace(played, sample=job.sample)

    slots, retries = rules.slots, rules.retries
    played = stream(suite, jobs, attempt, slots=slots, retries=retries, limits=limits, pool=pool)
    return (trajectory for _, trajectory in played)


def check_action_room(max_action_tokens: int, max_context: int) -> None:
    """Raises `InputError` where an action leaves no room for a prompt."""
    if max_action_tokens >= max_context:
        raise InputError(
            f"an action of up to {max_action_tokens} tokens leaves no room for a prompt: "
            f"the context holds {max_context}",
            where="rollout.max_action_tokens",
            hint="lower it, or raise model.max_context",
        )
