"""Trajectories from elsewhere, played again: do their actions earn what their file says?

Expert data carries texts of the simulator it was made with. Another version, another dialect of
actions or another numbering of tasks, and its actions no longer work; cloned all the same, they
ruin an agent silently. So their actions are taken, and everything else from the replay.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from eto.environments.answers import spoken_action
from eto.environments.contract import listed_tasks, user_code
from eto.environments.pool import EnvironmentPool, Result
from eto.errors import EnvironmentFailure
from eto.protocols import Step, TaskSuite
from eto.rollout.rollouts import RolloutSettings
from eto.types import Message, StopReason, Task, Trajectory, Turn

CLOSE = 1e-6
"""By which rewards may differ."""
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
    number: int
    given: Trajectory
    task: Task
    answers: tuple[str, ...]
    """As the environment gets them."""
    is_translated: bool = False
    failures: int = 0
    messages: tuple[Message, ...] | None = None
    """The suite's own prompt."""
    simulated: float = 0.0
    """Seconds that the simulator has worked on this try."""
    turns: list[Turn] = field(default_factory=list)
    last: Step | None = None


def replay(
    trajectories: Sequence[Trajectory],
    suite: TaskSuite,
    *,
    settings: RolloutSettings | None = None,
    pool: EnvironmentPool | None = None,
    on_done: Callable[[Trajectory], None] | None = None,
) -> Replayed:
    """Play every trajectory's actions in `suite` again.

    One is verified where the replay earns at least the reward it states and, if that is 1, solves the
    task. Its task is the suite's task of the same id, or the only one whose id ends on it
    (`17` finds `webshop/human/17`). An action is what follows its last `Action:`, where there is one
    (`spoken_action`); a suite of `style` "react" reads the answers itself, and understands none without.

    A suite that speaks one of several dialects has a method `translate(action)`, which gives the action in
    its own and whether its words are known. Translated trajectories get the suite's prompt, as the file's
    explains the other dialect.
    """
    settings = settings or RolloutSettings()
    found = Replayed()
    outcome: dict[int, tuple[list[Trajectory], Trajectory]] = {}
    waiting: deque[_Replay] = deque()
    known = _Known(suite)
    for number, given in enumerate(trajectories):
        task = known.find(given.task)
        called = sorted({call.name for turn in given.turns for call in turn.tool_calls})
        if task is None or called:
            why = f"calls functions ({', '.join(called)}), and {suite.name} takes text" if called else ""
            told = why or f"no task {given.task.id} in {suite.name}"
            outcome[number] = found.not_replayable, replace(given, detail=told)
        else:
            try:
                told = _translated(given, suite, found)
            except EnvironmentFailure as failure:
                outcome[number] = found.not_replayable, replace(given, detail=_simulator_failed(failure))
                continue
            waiting.append(_Replay(number, told, task, _answers(told, suite), told is not given))
    with nullcontext(pool) if pool is not None else settings.pool(suite) as simulators:
        _play(waiting, simulators, settings, found, outcome, on_done)
    for number in sorted(outcome):
        kept, trajectory = outcome[number]
        kept.append(trajectory)
    return found


def _translated(given: Trajectory, suite: TaskSuite, found: Replayed) -> Trajectory:
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
            found.unknown_words[(spoken.split() or [""])[0]] += 1
        if action != spoken.strip():
            found.translated += 1
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


def _play(
    waiting: deque[_Replay],
    pool: EnvironmentPool,
    settings: RolloutSettings,
    found: Replayed,
    outcome: dict[int, tuple[list[Trajectory], Trajectory]],
    on_done: Callable[[Trajectory], None] | None,
) -> None:
    running: dict[int, _Replay] = {}
    idle = list(range(settings.slots))
    while waiting or running:
        while idle and waiting:
            slot, episode = idle.pop(), waiting.popleft()
            episode.turns, episode.last, episode.simulated = [], None, 0.0
            running[slot] = episode
            pool.reset(slot, episode.task)
        for result in pool.poll():
            episode = running[result.slot]
            if result.begun is not None:
                episode.messages = result.begun.messages
            episode.simulated += result.seconds
            if result.failure is None and episode.simulated > settings.episode_seconds:
                late = f"it worked {episode.simulated:.0f} s on one episode"
                result = replace(result, failure=EnvironmentFailure(late))
            if not _advance(result, episode, pool):
                continue
            del running[result.slot]
            idle.append(result.slot)
            if result.failure is not None:
                episode.failures += not result.innocent
                if episode.failures <= settings.retries:
                    waiting.appendleft(episode)
                    continue
            outcome[episode.number] = _judge(episode, result, found)
            if on_done is not None:
                on_done(outcome[episode.number][1])


def _advance(result: Result, episode: _Replay, pool: EnvironmentPool) -> bool:
    """Take in one answer and ask for the next step; True at the end."""
    if result.failure is not None:
        return True
    if result.step is not None:
        step, given = result.step, episode.given.turns[len(episode.turns)]
        # An answer of a tool stays one, in the replay's words.
        heard = tuple(replace(each, content=step.observation) for each in given.answers[:1])
        episode.turns.append(replace(given, observation=step.observation, reward=step.reward, answers=heard))
        episode.last = step
        if step.terminated or step.truncated:
            return True
    if len(episode.turns) == len(episode.given.turns):
        return True
    pool.step(result.slot, episode.answers[len(episode.turns)])
    return False


def _answers(given: Trajectory, suite: TaskSuite) -> tuple[str, ...]:
    if getattr(suite, "style", "act") == "react":
        return given.actions
    return tuple(spoken_action(action) for action in given.actions)


def _simulator_failed(failure: EnvironmentFailure) -> str:
    return f"{SIMULATOR_FAILED}: {failure}"


def _judge(episode: _Replay, result: Result, found: Replayed) -> tuple[list[Trajectory], Trajectory]:
    given, last = episode.given, episode.last
    if result.failure is not None:
        return found.not_replayable, replace(given, detail=_simulator_failed(result.failure))
    reward = last.reward if last else 0.0
    success = last.success if last else False
    unsolved = given.reward == 1 and given.success is not False and success is False
    if reward < given.reward - CLOSE or unsolved:
        told = f"replayed, {len(episode.turns)} of {len(given.turns)} actions earn {reward:g}"
        return found.failed, replace(given, detail=f"{told}; the file says {given.reward:g}")
    found.other_observations += sum(
        here.observation != there.observation
        for here, there in zip(episode.turns, given.turns, strict=False)
        if there.observation
    )
    ended = last is not None and last.terminated
    prompt = episode.messages if episode.is_translated and episode.messages else given.messages
    return found.verified, replace(
        given,
        task=episode.task,
        messages=prompt,
        turns=tuple(episode.turns),
        reward=reward,
        success=success,
        stop=StopReason.TERMINATED if ended else StopReason.OUT_OF_TURNS,
        score=last.score if last else None,
        detail="",
    )
