"""Trajectories in the forms of other tools: ShareGPT, AgentTraj, OpenAI messages, TRL."""

from __future__ import annotations

from functools import partial
from typing import Any

from eto.data.foreign.written import Say, exchange, no_place, said_in_sharegpt, said_in_trl
from eto.errors import InputError
from eto.types import Message, Trajectory

AGREED = "OK. I'll follow your instructions and try my best to solve the task."
"""What the agent answers to the instruction in AgentTraj, which has no system message."""


def trajectory_to_sharegpt(trajectory: Trajectory) -> dict[str, Any]:
    """`id`, `source`, `reward`, `success`, and `conversations` of `from`/`value`.

    Replies without loss, those of the prompt too, are marked `"loss": false`. Raises `InputError` for
    calls, tools and thoughts, for empty replies, and for turns that begin afresh, as all forms here do.
    """
    if trajectory.tools:
        raise no_place(trajectory.task.id, "tools")
    prompt, turns = _said(trajectory, partial(said_in_sharegpt, task=trajectory.task.id))
    return {**_head(trajectory), **_prompt_length(trajectory, prompt), "conversations": [*prompt, *turns]}


def trajectory_to_agenttraj(trajectory: Trajectory) -> dict[str, Any]:
    """AgentGym's AgentTraj: `item_id`, and `conversations` whose replies all state their `loss`.

    A system message becomes a first message of the user that the agent agrees to.
    """
    made = trajectory_to_sharegpt(trajectory)
    said, length = made.pop("conversations"), made.pop("prompt_messages", 0)
    if said and said[0]["from"] == "system":
        said = [{**said[0], "from": "human"}, {"from": "gpt", "value": AGREED, "loss": False}, *said[1:]]
        length = len(trajectory.messages) + 1
    marked = [
        {
            "from": each["from"],
            "loss": each.get("loss", True) if each["from"] == "gpt" else None,
            "value": each["value"],
        }
        for each in said
    ]
    exact = {"prompt_messages": length} if length else {}
    return {"item_id": made.pop("id"), **made, **exact, "conversations": marked}


def trajectory_to_openai(trajectory: Trajectory) -> dict[str, Any]:
    """OpenAI's chat messages with `tools` and `tool_calls`; replies without loss have `"weight": 0`."""
    return _with_messages(trajectory, said_in_openai)


def trajectory_to_trl(trajectory: Trajectory) -> dict[str, Any]:
    """TRL's conversational language modelling: `messages` and `tools`.

    Raises `InputError` also for a turn without loss, which TRL would train. It trains replies of the
    prompt as well.
    """
    return _with_messages(trajectory, partial(said_in_trl, task=trajectory.task.id), heard=True)


def _with_messages(trajectory: Trajectory, say: Say, *, heard: bool = False) -> dict[str, Any]:
    prompt, turns = _said(trajectory, say, heard=heard)
    tools = {"tools": [dict(tool) for tool in trajectory.tools]} if trajectory.tools else {}
    length = _prompt_length(trajectory, prompt)
    return {**_head(trajectory), **length, "messages": [*prompt, *turns], **tools}


def _said(
    trajectory: Trajectory, say: Say, *, heard: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages of the prompt and of the turns. `heard`: the form cannot mark replies of the prompt."""
    for turn in trajectory.turns:
        if not turn.action.strip() and not turn.tool_calls:
            raise InputError(
                "a reply with neither text nor call", where=trajectory.task.id, hint="use --format own"
            )
    if not any(turn.loss for turn in trajectory.turns):
        raise InputError("no agent turn that carries loss", where=trajectory.task.id, hint="use --format own")
    prompt = [say(each, heard or each.role != "assistant") for each in trajectory.messages]
    return prompt, exchange(trajectory, say)


def _head(trajectory: Trajectory) -> dict[str, Any]:
    success = {} if trajectory.success is None else {"success": trajectory.success}
    return {"id": trajectory.task.id, "source": trajectory.source, "reward": trajectory.reward, **success}


def _prompt_length(trajectory: Trajectory, prompt: list[dict[str, Any]]) -> dict[str, int]:
    """`prompt_messages`, where a reader would not see by itself where the prompt ends."""
    first = trajectory.turns[0]
    replies = any(each.role == "assistant" for each in trajectory.messages)
    unclear = replies or not first.loss or first.action.strip().lower().startswith("ok")
    return {"prompt_messages": len(prompt)} if unclear else {}


def said_in_openai(message: Message, loss: bool) -> dict[str, Any]:
    """`role`, `content`, thoughts and calls, and `"weight": 0` where no loss falls on it."""
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        said["reasoning_content"] = message.reasoning
    if message.tool_calls:
        said["content"] = message.content or None
        said["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    for key in ("tool_call_id", "name"):
        if getattr(message, key):
            said[key] = getattr(message, key)
    return said if loss else {**said, "weight": 0}
