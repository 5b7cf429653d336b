"""An episode as a sample of an Inspect log: messages, scores, metadata, as JSON values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eto.data.texts import shorten, whole
from eto.types import Message, Phase, StopReason, ToolCall, Trajectory

LONGEST_INPUT = 1000
"""Characters of the prompt that lists of samples show."""
_NUMBERED = re.compile(r"[^/]*-(\d+)(?:/|$)")


@dataclass(frozen=True, slots=True)
class Played:
    """An episode, and where it was played."""

    trajectory: Trajectory
    phase: str = ""
    """Of its run, as text; "" for one from a file."""


def sample_of(played: Played, epoch: int) -> dict[str, Any]:
    """The sample of an episode; epoch: its number among those of its task in the log, from 1.

    A turn's message has its number, the reward had the episode ended there, and whether loss falls on it, as
    metadata. Scores: `reward`, and `success` (C or I) where the environment states it. A failed episode has
    an error in place of scores.
    """
    episode = played.trajectory
    messages, prompt = messages_of(episode), len(episode.messages)
    said = [each for each in messages[prompt:] if each["role"] == "assistant"]
    stop = "model_length" if episode.stop == StopReason.OUT_OF_TOKENS else "stop"
    sample: dict[str, Any] = {
        "id": whole(episode.task.id),
        "epoch": epoch,
        "input": messages[:prompt],
        "target": "",
        "messages": messages,
        "output": {
            "model": whole(episode.source),
            "choices": [{"message": said[-1], "stop_reason": stop}] if said else [],
        },
        "scores": None if episode.failed else _scores(episode),
        "metadata": metadata_of(played),
        **{"store": {}, "events": [], "model_usage": {}, "attachments": {}},
    }
    if episode.failed:
        text = whole(episode.detail or str(episode.stop))
        sample["error"] = {"message": text, "traceback": "", "traceback_ansi": ""}
    elif episode.stop == StopReason.OUT_OF_TURNS:
        sample["limit"] = {"type": "custom", "limit": len(episode.turns), "reason": str(episode.stop)}
    return sample


def summary_of(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What lists of samples show of one."""
    asked = [each["content"] for each in sample["input"] if each["role"] == "user"]
    summary = {name: sample[name] for name in ("id", "epoch", "target", "scores", "metadata", "model_usage")}
    summary["input"] = shorten(asked[-1] if asked else "", LONGEST_INPUT)
    summary["completed"], summary["message_count"] = True, len(sample["messages"])
    if "error" in sample:
        summary["error"] = sample["error"]["message"]
    if "limit" in sample:
        summary["limit"], summary["limit_reason"] = sample["limit"]["type"], sample["limit"]["reason"]
    return summary


def metadata_of(played: Played) -> dict[str, Any]:
    """What is known of an episode besides its messages; what is not known is left out."""
    episode = played.trajectory
    phase = Phase.parse(played.phase) if played.phase else None
    tokens = [len(turn.action_ids) for turn in episode.turns if turn.action_ids is not None]
    facts = {
        "task": episode.task.id,
        "environment": episode.task.environment,
        "type": episode.task.kind,
        "split": episode.task.split,
        "agent": episode.source,
        "phase": played.phase or None,
        "round": round_of(phase, episode.source),
        "sample": episode.sample,
        "seed": episode.seed,
        "stop": str(episode.stop),
        "turns": len(episode.turns),
        "tokens": sum(tokens) if tokens and len(tokens) == len(episode.turns) else None,
        "score": episode.score,
        "detail": episode.detail or None,
    }
    texts = {name: whole(value) for name, value in facts.items() if isinstance(value, str)}
    return {name: value for name, value in facts.items() if value is not None} | texts


def round_of(phase: Phase | None, source: str) -> int | None:
    """The round that an episode belongs to: the number of its exploration, or the one in the name of its
    stage or agent (`dpo-1`, `eto-2`); None where there is none."""
    if phase is not None and phase.purpose == "explore" and phase.name.isdecimal():
        return int(phase.name)
    match = _NUMBERED.match(phase.name if phase is not None and phase.name else source)
    return int(match[1]) if match else None


def messages_of(episode: Trajectory) -> list[dict[str, Any]]:
    """Prompt, actions and observations, the last one too, each numbered from 1."""
    said = [_message(message) for message in episode.messages]
    for number, turn in enumerate(episode.turns, 1):
        facts: dict[str, Any] = {"turn": number, "reward": turn.reward, "loss": turn.loss}
        if turn.afresh:
            facts["afresh"] = True
        action = _message(Message("assistant", turn.action, turn.reasoning, turn.tool_calls))
        said.append({**action, "source": "generate", "model": whole(episode.source), "metadata": facts})
        if turn.answers:
            said += [_message(message) for message in turn.answers]
        elif turn.observation:
            said.append(_message(Message("user", turn.observation)))
    return [{"id": str(number), **message} for number, message in enumerate(said, 1)]


def _scores(episode: Trajectory) -> dict[str, Any]:
    scores: dict[str, Any] = {"reward": {"value": episode.reward}}
    if episode.success is not None:
        scores["success"] = {"value": "C" if episode.success else "I"}
    return scores


def _message(message: Message) -> dict[str, Any]:
    text = whole(message.content)
    said: dict[str, Any] = {"role": message.role, "content": text}
    if message.reasoning:
        thought = {"type": "reasoning", "reasoning": whole(message.reasoning)}
        said["content"] = [thought, {"type": "text", "text": text}]
    if message.tool_calls:
        said["tool_calls"] = [_call(call, number) for number, call in enumerate(message.tool_calls, 1)]
    if message.tool_call_id:
        said["tool_call_id"] = whole(message.tool_call_id)
    if message.name and message.role == "tool":
        said["function"] = whole(message.name)
    return said


def _call(call: ToolCall, number: int) -> dict[str, Any]:
    arguments = json.loads(whole(call.arguments))
    return {
        "id": whole(call.id) or f"call-{number}",
        "function": whole(call.name),
        "arguments": arguments,
        "type": "function",
    }
