"""One episode, from reset to end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from eto.data.texts import whole
from eto.engines.actor import Actor, Dialogue
from eto.environments.hosting.boundary import payload_fault
from eto.errors import EnvironmentFailure, PromptTooLong
from eto.protocols import EngineFault, Sampling, Step
from eto.rollout.simulators import Simulator
from eto.types import Message, StopReason, Task, Trajectory, Turn

LONGEST_DETAIL = 2000
"""Characters of a failure's reason that are kept."""


async def play(
    actor: Actor,
    simulator: Simulator,
    task: Task,
    sampling: Sampling,
    prefix: Sequence[Turn] = (),
    *,
    retries: int = 0,
    own_turns: int | None = None,
) -> Trajectory:
    """One episode of `actor`, whatever comes of it.

    It begins with `prefix`: turns whose actions are played again and whose observations are the simulator's
    own now (`drift` counts those that differ); their ids, where they have any, belong to the actor's
    tokenizer. `sampling`: with the episode's seed, from which each turn's is made. `retries`: of a request
    that the engine failed to answer. `own_turns`: after so many of its own the episode is out of turns.
    """
    episode = Episode(task, actor.name, sampling.seed, actor.tokenizer_id)
    try:
        begun = await simulator.reset(task)
        episode.messages = actor.prompted(begun.messages)
        if stop := await recite(simulator, episode, prefix):
            return episode.ended(stop)
        room = sampling.max_tokens
        last = begun.max_turns if own_turns is None else min(begun.max_turns, len(prefix) + own_turns)
        async with actor.dialogue(episode.messages, episode.turns, room=room) as dialogue:
            while len(episode.turns) < last:
                if dialogue.full:
                    return episode.ended(StopReason.OUT_OF_TOKENS)
                seed = turn_seed(sampling.seed, len(episode.turns))
                turn = await _act(actor, dialogue, episode, replace(sampling, seed=seed), retries)
                if isinstance(turn, EngineFault):
                    return episode.ended(StopReason.ENGINE_FAILED, turn.problem)
                if stop := episode.add(turn, await simulator.step(turn.action)):
                    return episode.ended(stop)
                if len(episode.turns) < last:
                    dialogue.hear(episode.turns[-1])
        return episode.ended(StopReason.OUT_OF_TURNS)
    except PromptTooLong as error:
        return episode.ended(StopReason.OUT_OF_TOKENS, str(error))
    except EnvironmentFailure as failure:
        return episode.ended(StopReason.ENVIRONMENT_FAILED, str(failure))


async def _act(
    actor: Actor, dialogue: Dialogue, episode: Episode, sampling: Sampling, retries: int
) -> Turn | EngineFault:
    choice = actor.choice
    if choice is None:
        return await dialogue.act(sampling, retries)
    seeds = [candidate_seed(sampling.seed, candidate) for candidate in range(choice.candidates)]
    samplings = [replace(sampling, seed=seed) for seed in seeds]
    return await dialogue.act_best(
        samplings, lambda actions: choice.pick(episode.messages, episode.turns, actions), retries
    )


async def recite(
    simulator: Simulator, episode: Episode, turns: Sequence[Turn], spoken: Sequence[str] | None = None
) -> StopReason | None:
    """Play `turns` again, with `spoken` for their actions where the environment should get other texts;
    the reason where the episode ends with one of them."""
    for turn, action in zip(turns, spoken or [turn.action for turn in turns], strict=True):
        if stop := episode.add(turn, await simulator.step(action)):
            return stop
    return None


def drift(prefix: Sequence[Turn], turns: Sequence[Turn]) -> int:
    """Turns of `prefix`, of those that state an observation, that were answered otherwise in `turns`."""
    pairs = zip(prefix, turns, strict=False)
    return sum(bool(before.observation) and before.observation != now.observation for before, now in pairs)


@dataclass(slots=True)
class Episode:
    """An episode under way."""

    task: Task
    source: str
    seed: int = 0
    tokenizer: str | None = None
    messages: tuple[Message, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    last: Step | None = None

    def add(self, turn: Turn, step: Step) -> StopReason | None:
        """Take in a turn and what came back; the reason where it is the last. The answer of a tool stays
        one, in the simulator's words."""
        answers = tuple(replace(answer, content=step.observation) for answer in turn.answers[:1])
        answered = replace(turn, observation=step.observation, reward=step.reward, answers=answers)
        self.turns.append(replace(answered, afresh=step.afresh))
        self.last = step
        if step.terminated:
            return StopReason.TERMINATED
        return StopReason.OUT_OF_TURNS if step.truncated else None

    def ended(self, stop: StopReason, detail: str = "") -> Trajectory:
        """The trajectory that it has become."""
        last, task = self.last, self.task
        if stop is StopReason.ENVIRONMENT_FAILED and payload_fault(task.payload):
            task = replace(task, payload={})  # it cannot be written down
        return Trajectory(
            task=task,
            messages=self.messages,
            turns=tuple(self.turns),
            reward=last.reward if last else 0.0,
            success=last.success if last else False,
            stop=stop,
            source=self.source,
            seed=self.seed,
            score=last.score if last else None,
            tokenizer=self.tokenizer,
            detail=whole(detail[:LONGEST_DETAIL]),
        )


def episode_seed(seed: int, task_id: str, sample: int) -> int:
    """A stable 63-bit seed for one episode."""
    return _seed(f"{seed}\0{task_id}\0{sample}")


def turn_seed(seed: int, turn: int) -> int:
    """A stable 63-bit seed for one turn of an episode; its first turn has the episode's own."""
    return _seed(f"{seed}\0{turn}") if turn else seed


def candidate_seed(seed: int, candidate: int) -> int:
    """A stable 63-bit seed for one of a turn's candidates; the first has the turn's own."""
    return _seed(f"{seed}\0candidate {candidate}") if candidate else seed


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
