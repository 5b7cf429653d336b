"""Trajectories from elsewhere, played again: do their actions earn what their file says?

Expert data carries texts of the simulator it was made with. Another version, another dialect of
actions or another numbering of tasks, and its actions no longer work; cloned anyway, they
ruin an agent silently. So their actions are taken, and everything else from the replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from eto.data.store import TrajectoryStore
from eto.environments.hosting.boundary import listed_tasks, user_code
from eto.environments.hosting.pool import EnvironmentPool
from eto.environments.toolkit.answers import spoken_action
from eto.errors import EnvironmentFailure
from eto.protocols import TaskSuite
from eto.rollout.episode import Episode, drift, recite
from eto.rollout.simulators import Simulator
from eto.rollout.slots import stream
from eto.settings import EnvironmentLimits, RolloutSettings
from eto.types import Phase, StopReason, Task, Trajectory

CLOSE = 1e-6
"""By which rewards may differ."""
REPLAYED = Phase("replay")
"""Under which episodes are kept, with the place of their trajectory in the file as `sample`."""
SIMULATOR_FAILED = "the simulator failed"
"""How the `detail` of a trajectory begins whose episode could not be played."""


@dataclass(slots=True)
class Replayed:
    """What became of trajectories, each in the order given."""

    verified: list[Trajectory] = field(default_factory=list)
    """As replayed: task, observations, rewards and end are the simulator's, actions and prompt the file's."""
    failed: list[Trajectory] = field(default_factory=list)
    """As given; `detail` says what the replay came to."""
    not_replayable: list[Trajectory] = field(default_factory=list)
    """As given: their task is unknown here, they call functions, or the simulator failed; `detail`
    says which."""
    other_observations: int = 0
    """Turns of verified trajectories whose observation is worded otherwise here."""
    translated: int = 0
    """Actions that were put into the suite's dialect."""
    unknown_words: Counter[str] = field(default_factory=Counter)
    """First words of actions that no dialect of the suite knows."""


@dataclass(slots=True)
class _Replay:
    """A trajectory to be played."""

    given: Trajectory
    """In the suite's dialect."""
    task: Task
    actions: tuple[str, ...]
    """As the environment gets them."""
    is_translated: bool = False


def replay(
    trajectories: Sequence[Trajectory],
    suite: TaskSuite,
    *,
    settings: RolloutSettings | None = None,
    limits: EnvironmentLimits | None = None,
    pool: EnvironmentPool | None = None,
) -> Replayed:
    """Play every trajectory's actions in `suite` again; see `stream_replay`."""
    replayed = Replayed()
    for _ in stream_replay(trajectories, suite, replayed, settings=settings, limits=limits, pool=pool):
        pass
    return replayed


def stream_replay(
    trajectories: Sequence[Trajectory],
    suite: TaskSuite,
    replayed: Replayed,
    *,
    settings: RolloutSettings | None = None,
    limits: EnvironmentLimits | None = None,
    pool: EnvironmentPool | None = None,
    store: TrajectoryStore | None = None,
) -> Iterator[Trajectory]:
    """Play every trajectory's actions in `suite` again. Yields each as what became of it is known, and fills
    `replayed` at the end.

    One is verified where the replay earns at least the reward it states and, if that is 1, solves the
    task. Its task is the suite's task of the same id, or the only one whose id ends on it
    (`17` finds `webshop/human/17`). An action is what follows its last `Action:`, where there is one
    (`spoken_action`); a suite of `style` "react" reads the answers itself, and understands none without.

    A suite that speaks one of several dialects has a method `translate(action)`, which gives the action in
    its own and whether its words are known. Translated trajectories get the suite's prompt, as the file's
    explains the other dialect.

    What `store` holds under `REPLAYED`, from an earlier start with the same trajectories, is not played
    again, unless its simulator failed; each other episode is added as it ends.
    """
    settings, limits = settings or RolloutSettings(), limits or EnvironmentLimits()
    jobs: dict[int, _Replay] = {}
    outcomes: dict[int, tuple[list[Trajectory], Trajectory]] = {}
    known = _Known(suite)
    for index, given in enumerate(trajectories):
        job = _job(given, suite, known, replayed)
        if isinstance(job, _Replay):
            jobs[index] = job
        else:
            outcomes[index] = replayed.not_replayable, replace(given, detail=job)
            yield outcomes[index][1]
    for earlier in store.get(REPLAYED) if store else ():
        if earlier.sample in jobs:
            outcomes[earlier.sample] = _judge(jobs.pop(earlier.sample), earlier, replayed)
            yield outcomes[earlier.sample][1]

    async def attempt(simulator: Simulator, index: int) -> Trajectory:
        return await _played(simulator, jobs[index])

    slots, retries = settings.slots, settings.retries
    for index, played in stream(suite, jobs, attempt, slots=slots, retries=retries, limits=limits, pool=pool):
        if store:
            store.add(REPLAYED, replace(played, sample=index))
        outcomes[index] = _judge(jobs[index], played, replayed)
        yield outcomes[index][1]
    for _, (kept, trajectory) in sorted(outcomes.items(), key=lambda item: item[0]):
        kept.append(trajectory)


def _job(given: Trajectory, suite: TaskSuite, known: _Known, replayed: Replayed) -> _Replay | str:
    """What to play for `given`, or why it cannot be."""
    called = sorted({call.name for turn in given.turns for call in turn.tool_calls})
    if called:
        return f"calls functions ({', '.join(called)}), and {suite.name} takes text"
    task = known.find(given.task)
    if task is None:
        return f"no task {given.task.id} in {suite.name}"
    try:
        translated = _translated(given, suite, replayed)
    except EnvironmentFailure as failure:
        return _simulator_failed(str(failure))
    return _Replay(translated, task, _spoken(translated, suite), translated is not given)


async def _played(simulator: Simulator, job: _Replay) -> Trajectory:
    """The episode that the actions of `job` make."""
    episode = Episode(job.task, job.given.source, tokenizer=job.given.tokenizer)
    try:
        episode.messages = (await simulator.reset(job.task)).messages
        stop = await recite(simulator, episode, job.given.turns, job.actions)
    except EnvironmentFailure as failure:
        return episode.ended(StopReason.ENVIRONMENT_FAILED, str(failure))
    return episode.ended(stop or StopReason.OUT_OF_TURNS)


def _translated(given: Trajectory, suite: TaskSuite, replayed: Replayed) -> Trajectory:
    """`given` in the suite's dialect; itself where nothing had to be changed."""
    translate = getattr(suite, "translate", None)
    if translate is None:
        return given
    turns = []
    for turn in given.turns:
        spoken = spoken_action(turn.action)
        with user_code("translate"):
            action, known = translate(spoken)
        if not known:
            replayed.unknown_words[(spoken.split() or [""])[0]] += 1
        if action != spoken.strip():
            replayed.translated += 1
            before = turn.action.removesuffix(spoken)
            turn = replace(turn, action=before + action, action_ids=None)
        turns.append(turn)
    return given if tuple(turns) == given.turns else replace(given, turns=tuple(turns))


class _Known:
    """The tasks of a suite by id and by the ends of it."""

    def __init__(self, suite: TaskSuite) -> None:
        self._by_id: dict[str, Task] = {}
        self._by_end: dict[str, list[Task]] = {}
        for split in suite.splits:
            for task in listed_tasks(suite, split):
                self._by_id.setdefault(task.id, task)
                parts = task.id.split("/")
                for start in range(1, len(parts)):
                    self._by_end.setdefault("/".join(parts[start:]), []).append(task)

    def find(self, task: Task) -> Task | None:
        if task.id in self._by_id:
            return self._by_id[task.id]
        ending = self._by_end.get(task.id, [])
        return ending[0] if len(ending) == 1 else None


def _spoken(given: Trajectory, suite: TaskSuite) -> tuple[str, ...]:
    if getattr(suite, "style", "act") == "react":
        return given.actions
    return tuple(spoken_action(action) for action in given.actions)


def _simulator_failed(why: str) -> str:
    return f"{SIMULATOR_FAILED}: {why}"


def _judge(job: _Replay, played: Trajectory, replayed: Replayed) -> tuple[list[Trajectory], Trajectory]:
    """Where a replayed trajectory belongs, and what is kept of it."""
    given = job.given
    if played.failed:
        return replayed.not_replayable, replace(given, detail=_simulator_failed(played.detail))
    unsolved = given.reward == 1 and given.success is not False and played.success is False
    if played.reward < given.reward - CLOSE or unsolved:
        summary = f"replayed, {len(played.turns)} of {len(given.turns)} actions earn {played.reward:g}"
        return replayed.failed, replace(given, detail=f"{summary}; the file says {given.reward:g}")
    replayed.other_observations += drift(given.turns, played.turns)
    return replayed.verified, replace(
        given,
        task=job.task,
        messages=played.messages if job.is_translated and played.messages else given.messages,
        turns=played.turns,
        reward=played.reward,
        success=played.success,
        stop=played.stop,
        score=played.score,
        detail="",
    )
