"""The records every layer speaks in: messages, tasks, turns, trajectories, pairs.

All are frozen. Reward, success, terminated and truncated are four different things:
reward is a number in [0, 1], success is what the environment calls solved (or unknown),
terminated means the environment ended the episode, truncated that a limit did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
PairKind = Literal["trajectory", "suffix", "action", "group"]


class StopReason(StrEnum):
    """Why an episode ended."""

    TERMINATED = "terminated"
    """The environment ended it: solved, failed for good, or bought."""
    OUT_OF_TURNS = "out_of_turns"
    """The cap on turns was reached."""
    OUT_OF_TOKENS = "out_of_tokens"
    """The next turn would not have fitted the model's context."""
    ENVIRONMENT_FAILED = "environment_failed"
    """The simulator crashed or hung, retries included. Never an agent's failure."""
    ENGINE_FAILED = "engine_failed"
    """The model's engine failed. Never an agent's failure."""


FAILED = frozenset({StopReason.ENVIRONMENT_FAILED, StopReason.ENGINE_FAILED})

Outcome = Literal["won", "lost", "failed", ""]
"""How an episode ended: "" where the environment does not say whether its task was solved."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a function, as part of an agent's message."""

    name: str
    arguments: str = "{}"
    """A JSON object as text, in the order its author wrote it."""
    id: str = ""
    """What the answering `tool` message refers to; "" where there is none."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str
    reasoning: str = ""
    """Of the agent: thoughts that are separate from the text (`reasoning_content`)."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of the agent: functions called, in order."""
    tool_call_id: str = ""
    """Of a tool: the call that this answers."""
    name: str = ""
    """Of a tool: the function that answers."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem of an environment."""

    id: str
    """Stable text, unique over all environments: `scienceworld/find-plant/17`."""
    environment: str
    """Name of the task suite: `scienceworld`."""
    kind: str
    """Task type, the unit of per-type results: `find-plant`."""
    split: str
    """`train`, `dev` or `test`, the environment's official split."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What the environment needs to reset to this task; JSON values only."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One action of the agent and what came back."""

    action: str
    """The agent's text without the end-of-turn token, thoughts included that stand in it."""
    observation: str
    """The environment's answer; "" where the episode ended without one."""
    reward: float = 0.0
    """The trajectory's reward had it ended here, in [0, 1]."""
    action_ids: tuple[int, ...] | None = None
    """Token ids of the action as sampled, end-of-turn token included where one was
    sampled; None for text that no engine of ours produced."""
    log_probs: tuple[float, ...] | None = None
    """Log-probability of each of `action_ids` under the distribution that the agent had then, at
    temperature 1; None where nobody recorded them."""
    reasoning: str = ""
    """Thoughts that are separate from the action's text, as `Message.reasoning`."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Functions that the action calls, in order."""
    answers: tuple[Message, ...] = ()
    """The observation as messages, where it is other than one user message: tool results.
    `observation` then is their texts, joined by line breaks."""
    loss: bool = True
    """False: this turn is context alone; no loss falls on it, in cloning and in pairs."""
    afresh: bool = False
    """True: what comes next follows the prompt's system messages and this turn's observation alone."""
    discarded_tokens: int = 0
    """Tokens sampled for actions that were offered in this turn and not taken."""

    @property
    def said(self) -> tuple[str, str, tuple[ToolCall, ...]]:
        """All that the agent wrote in this turn: two turns with equal `said` are one action."""
        return self.action, self.reasoning, self.tool_calls


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode: a task, the prompt, and the turns that followed."""

    task: Task
    messages: tuple[Message, ...]
    """The prompt before the first action: instruction, task, first observation."""
    turns: tuple[Turn, ...]
    reward: float
    """Reward of the episode, in [0, 1]."""
    success: bool | None
    """Whether the environment says the task was solved; None where it does not say."""
    stop: StopReason
    source: str
    """`expert`, or the name of the policy that acted: `sft`, `eto-1`."""
    sample: int = 0
    """Number of this sample among those of the same task and source, from 0."""
    seed: int = 0
    """Seed of this episode's sampling."""
    score: float | None = None
    """The environment's own score at the end, unclipped; None where it has none."""
    tokenizer: str | None = None
    """Fingerprint of the tokenizer `action_ids` belong to; None where there are none."""
    detail: str = ""
    """For a failed episode, what failed."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions the agent could call, as JSON schemas in the form chat templates take."""

    @property
    def failed(self) -> bool:
        """True when environment or engine failed: says nothing about the agent."""
        return self.stop in FAILED

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.failed, self.success)

    @property
    def truncated(self) -> bool:
        return self.stop in (StopReason.OUT_OF_TURNS, StopReason.OUT_OF_TOKENS)

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(turn.action for turn in self.turns)


def outcome_of(failed: bool, success: bool | None) -> Outcome:
    """In a word, how an episode ended."""
    if failed:
        return "failed"
    return "" if success is None else "won" if success else "lost"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A task, and turns with which its episodes begin."""

    task: Task
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """Episodes that are kept together: who played them, and what for.

    `text` and `parse` are the one place where its form on disk is written and read.
    """

    purpose: str
    """`expert`, `explore`, `continue` or `evaluate`; what a command without stages keeps stands under its
    split alone."""
    name: str = ""
    """Explored: the number of the exploration. Continued: the stage. Evaluated: the agent, or a checkpoint of
    a stage."""
    split: str = ""
    """Evaluated: whose tasks were played."""

    @classmethod
    def expert(cls) -> Phase:
        """The experts' trajectories."""
        return cls("expert")

    @classmethod
    def explore(cls, iteration: int) -> Phase:
        """What an agent played to be trained on; iteration: the number of the exploration, from 1."""
        return cls("explore", str(iteration))

    @classmethod
    def continued(cls, stage: str) -> Phase:
        """What a stage played on from turns that were given."""
        return cls("continue", stage)

    @classmethod
    def evaluate(cls, name: str, split: str) -> Phase:
        """What an agent or a checkpoint played to be measured."""
        return cls("evaluate", name, split)

    @classmethod
    def parse(cls, text: str) -> Phase:
        """The phase that is written as `text`: `explore/1`, `evaluate/dpo-1/epoch-2/dev`, `expert`."""
        purpose, _, rest = text.partition("/")
        if purpose != "evaluate":
            return cls(purpose, rest)
        name, _, split = rest.rpartition("/")
        return cls(purpose, name, split)

    @property
    def text(self) -> str:
        """As it is written in a store and in what a stage has noted."""
        return "/".join(part for part in (self.purpose, self.name, self.split) if part)


def checkpoint_name(stage: str, epoch: int | str) -> str:
    """Under what a stage's model after an epoch, from 1, is measured: `dpo-1/epoch-2`; within one, after a
    step, `dpo-1/epoch-2.40`; `*`: after any."""
    return f"{stage}/epoch-{epoch}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two trajectories of one task, the better and the worse."""

    task: Task
    chosen: Trajectory
    rejected: Trajectory
    shared_turns: int
    """Leading turns with equal action and observation on both sides."""
    kind: PairKind = "trajectory"
