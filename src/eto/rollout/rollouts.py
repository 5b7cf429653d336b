"""Play many episodes at once: continuous admission, deadlines, retries.

An episode holds a slot until it ends; the next one is then admitted. While the policy
writes for some episodes, the simulators of others are working. An episode whose
simulator hangs, dies, raises or breaks its contract is started again once; after that it is
returned with stop reason `environment_failed` and the reason as its `detail`, which never counts
as the agent's failure. A prompt that the model's context does not hold ends its episode without a
turn, with stop reason `out_of_tokens`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from eto.environments.contract import check_tasks, payload_fault
from eto.environments.pool import EnvironmentPool, Result
from eto.errors import PromptTooLong
from eto.limits import Count, EpisodeSeed, Megabytes, NotNegative, Positive, Whole, check, check_values
from eto.protocols import Policy, Reply, ReplyEnd, Step, TaskSuite
from eto.texts import whole
from eto.types import Message, StopReason, Task, Trajectory, Turn

LONGEST_DETAIL = 2000
"""Characters of a failure's reason that are kept."""


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How episodes are played. Raises `InputError` for a value out of range."""

    temperature: NotNegative = 0.0
    """0 is greedy."""
    seed: EpisodeSeed = 0
    slots: Count = 24
    """Episodes at the same time."""
    workers: Whole = 2
    """Simulator processes; 0 plays in this process."""
    step_seconds: Positive = 30.0
    reset_seconds: Positive = 120.0
    episode_seconds: Positive = 600.0
    """Longest its simulator may work on one episode; over it counts as a failed simulator."""
    memory_mb: Megabytes | None = None
    """Most memory of one simulator process and all it started; None: an equal share of the machine's."""
    retries: Whole = 1
    """Times an episode is started again after its simulator failed."""

    def __post_init__(self) -> None:
        check(self)

    def pool(self, suite: TaskSuite) -> EnvironmentPool:
        """Simulators of `suite` with these workers, deadlines and memory."""
        return EnvironmentPool(
            suite,
            self.workers,
            step_seconds=self.step_seconds,
            reset_seconds=self.reset_seconds,
            memory_mb=self.memory_mb,
        )


@dataclass(slots=True)
class _Episode:
    task: Task
    sample: int
    seed: int
    failures: int = 0
    simulated: float = 0.0
    session: Any = None
    messages: tuple[Message, ...] = ()
    max_turns: int = 0
    turns: list[Turn] = field(default_factory=list)
    reply: Reply | None = None
    last: Step | None = None


def rollouts(
    policy: Policy,
    suite: TaskSuite,
    tasks: Sequence[Task],
    *,
    samples: Count = 1,
    settings: RolloutSettings | None = None,
    done: frozenset[tuple[str, int]] = frozenset(),
    on_trajectory: Callable[[Trajectory], None] | None = None,
    pool: EnvironmentPool | None = None,
) -> list[Trajectory]:
    """`samples` episodes of each task, in the order of (task, sample).

    `done` names (task id, sample) episodes to leave out, for example those of an earlier,
    interrupted call. `on_trajectory` is called as each episode ends, before its slot is
    used again. The seed of an episode depends on `settings.seed`, task and sample alone.
    `pool`: simulators that stand already and stay; without it they are started for this
    call, with the workers and deadlines of `settings`.

    Raises `InputError` for tasks that are there twice or whose id is no text.
    """
    check_values(rollouts, {"samples": samples})
    settings = settings or RolloutSettings()
    check_tasks(tasks)
    waiting = deque(
        _Episode(task, sample, episode_seed(settings.seed, task.id, sample))
        for task in tasks
        for sample in range(samples)
        if (task.id, sample) not in done
    )
    order = {(episode.task.id, episode.sample): number for number, episode in enumerate(waiting)}
    finished: list[Trajectory] = []
    with nullcontext(pool) if pool is not None else settings.pool(suite) as simulators:
        play = _Play(policy, settings, simulators)
        while waiting or play.slots:
            while waiting and len(play.slots) < settings.slots:
                play.admit(waiting.popleft())
            for trajectory in play.advance(waiting):
                if on_trajectory is not None:
                    on_trajectory(trajectory)
                finished.append(trajectory)
    finished.sort(key=lambda t: order[t.task.id, t.sample])
    return finished


def episode_seed(seed: int, task_id: str, sample: int) -> int:
    """A stable 63-bit seed for one episode."""
    digest = hashlib.sha256(f"{seed}\0{task_id}\0{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class _Play:
    """The episodes under way, by slot."""

    def __init__(self, policy: Policy, settings: RolloutSettings, pool: EnvironmentPool) -> None:
        self.policy, self.settings, self.pool = policy, settings, pool
        self.slots: dict[int, _Episode] = {}
        self._writing: dict[int, int] = {}  # id of session -> slot
        self._idle: list[int] = list(range(settings.slots))[::-1]

    def admit(self, episode: _Episode) -> None:
        slot = self._idle.pop()
        episode.simulated = 0.0
        episode.session, episode.reply, episode.last = None, None, None
        episode.turns = []
        self.slots[slot] = episode
        self.pool.reset(slot, episode.task)

    def advance(self, waiting: deque[_Episode]) -> list[Trajectory]:
        """One policy step and what the simulators have ready; returns episodes that ended."""
        ended = []
        for result in self.pool.poll(timeout=0.0 if self._writing else None):
            episode = self.slots[result.slot]
            episode.simulated += result.seconds
            if result.failure is not None or episode.simulated > self.settings.episode_seconds:
                trajectory = self._fail(result, episode, waiting)
            elif result.kind == "reset":
                trajectory = self._begin(result, episode)
            else:
                trajectory = self._observe(result, episode)
            if trajectory is not None:
                ended.append(trajectory)
        if self._writing:
            for reply in self.policy.poll():
                trajectory = self._act(reply)
                if trajectory is not None:
                    ended.append(trajectory)
        return ended

    def _begin(self, result: Result, episode: _Episode) -> Trajectory | None:
        episode.messages, episode.max_turns = result.begun.messages, result.begun.max_turns
        try:
            episode.session = self.policy.open(
                episode.messages, temperature=self.settings.temperature, seed=episode.seed
            )
        except PromptTooLong as error:
            return self._end(result.slot, StopReason.OUT_OF_TOKENS, str(error))
        self._write(result.slot, episode, None)
        return None

    def _write(self, slot: int, episode: _Episode, observation: str | None) -> None:
        self._writing[id(episode.session)] = slot
        self.policy.submit(episode.session, observation)

    def _act(self, reply: Reply) -> Trajectory | None:
        slot = self._writing.pop(id(reply.session))
        episode = self.slots[slot]
        if reply.end is ReplyEnd.CONTEXT:
            return self._end(slot, StopReason.OUT_OF_TOKENS)
        episode.reply = reply
        self.pool.step(slot, reply.action)
        return None

    def _observe(self, result: Result, episode: _Episode) -> Trajectory | None:
        step, reply = result.step, episode.reply
        episode.turns.append(Turn(reply.action, step.observation, step.reward, reply.action_ids))
        episode.last = step
        if step.terminated:
            return self._end(result.slot, StopReason.TERMINATED)
        if step.truncated or len(episode.turns) >= episode.max_turns:
            return self._end(result.slot, StopReason.OUT_OF_TURNS)
        self._write(result.slot, episode, step.observation)
        return None

    def _fail(self, result: Result, episode: _Episode, waiting: deque[_Episode]) -> Trajectory | None:
        episode.failures += not result.innocent
        if episode.failures > self.settings.retries:
            late = f"the simulator worked {episode.simulated:.0f} s on one episode"
            return self._end(result.slot, StopReason.ENVIRONMENT_FAILED, str(result.failure or late))
        self._leave(result.slot)
        waiting.appendleft(episode)
        return None

    def _end(self, slot: int, stop: StopReason, detail: str = "") -> Trajectory:
        episode = self._leave(slot)
        last, task = episode.last, episode.task
        if stop is StopReason.ENVIRONMENT_FAILED and payload_fault(task.payload):
            task = replace(task, payload={})  # it cannot be written down
        return Trajectory(
            task=task,
            messages=episode.messages,
            turns=tuple(episode.turns),
            reward=last.reward if last else 0.0,
            success=last.success if last else False,
            stop=stop,
            source=self.policy.name,
            sample=episode.sample,
            seed=episode.seed,
            score=last.score if last else None,
            tokenizer=self.policy.tokenizer_id,
            detail=whole(detail[:LONGEST_DETAIL]),
        )

    def _leave(self, slot: int) -> _Episode:
        episode = self.slots.pop(slot)
        if episode.session is not None:
            self.policy.release(episode.session)
        self._idle.append(slot)
        return episode
