"""The reference's way of playing, for the rollouts benchmark, and the check that eto plays the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eto.engines.in_process.conversation import common_prefix
from eto.environments.hosting.java import ensure_java, gateway_text
from eto.environments.scienceworld.suite import cut_at_line
from eto.protocols import Step, TaskSuite
from eto.tokens.rendering import Renderer
from eto.types import Message, StopReason, Task, Trajectory, Turn

STEP_LIMIT = 200
"""The simulator's own cap on moves in the ETO paper's code."""
TIE = 1e-3
"""Logits closer than this are equal in fp32: sums in another order may swap them."""


def as_chat(messages: Sequence[Message], turns: Sequence[Turn] = ()) -> list[dict[str, str]]:
    """A conversation as chat templates and servers take it, up to where the agent writes."""
    chat = [{"role": message.role, "content": message.content} for message in messages]
    for turn in turns:
        chat.append({"role": "assistant", "content": turn.action})
        chat.append({"role": "user", "content": turn.observation})
    return chat


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of `generate`."""

    prompt: list[int]
    ids: list[int]
    """New tokens, end of turn included where there is one."""
    text: str


class OneByOne:
    """The way of the ETO paper's code: one episode at a time, each turn again from its text.

    The whole history goes through the chat template into `generate`, whose key-value cache
    is dropped at the end of the turn.
    """

    name = "one-by-one"

    def __init__(
        self, folder: Path, dtype: torch.dtype, stops: Sequence[int], max_action_tokens: int = 32
    ) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self._stops, self._max_action_tokens = list(stops), max_action_tokens

    def act(self, chat: list[dict[str, str]]) -> Said:
        """The greedy answer to a conversation."""
        return self.go_on(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"])

    def go_on(self, prompt: list[int]) -> Said:
        """The greedy answer to a prompt of token ids."""
        ids = torch.tensor([prompt])
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=self._max_action_tokens,
            eos_token_id=self._stops,
            pad_token_id=self._stops[0],
        )
        new = out[0, len(prompt) :].tolist()
        text = self.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Said(prompt, new, text)

    @torch.inference_mode()
    def margin(self, ids: Sequence[int]) -> float:
        """By how much the likeliest next token's logit leads the second one's."""
        logits = self.model(input_ids=torch.tensor([list(ids)])).logits[0, -1].float()
        first, second = logits.topk(2).values.tolist()
        return first - second

    def play(
        self, suite: TaskSuite, task: Task, messages: Sequence[Message], simulator: WrapperSimulator
    ) -> Trajectory:
        """One episode. `messages` is the prompt that the suite gives this task."""
        simulator.start(task, messages)
        turns: list[Turn] = []
        best, step = 0.0, None
        while len(turns) < suite.max_turns(task) and not (step and step.terminated):
            said = self.act(as_chat(messages, turns))
            step = simulator.step(said.text)
            best = max(best, step.reward)
            turns.append(Turn(said.text, step.observation, best))
        return Trajectory(
            task=task,
            messages=tuple(messages),
            turns=tuple(turns),
            reward=best,
            success=step.success,
            stop=StopReason.TERMINATED if step.terminated else StopReason.OUT_OF_TURNS,
            source=self.name,
        )


class WrapperSimulator:
    """ScienceWorld as its Python wrapper steps it: with the list of valid actions, every time.

    The JVM's heap is capped, which leaves its speed as it is and other contestants their memory.
    """

    def __init__(self, suite: TaskSuite) -> None:
        from scienceworld import ScienceWorldEnv

        self._limit = suite.spec()[1]["observation_limit"]
        java = str(Path(ensure_java().path).parent)
        settings = {
            "PATH": java + os.pathsep + os.environ.get("PATH", ""),
            "JAVA_TOOL_OPTIONS": "-Xmx512m -XX:+UseSerialGC",
        }
        with mock.patch.dict(os.environ, settings):
            self._env = ScienceWorldEnv("", envStepLimit=STEP_LIMIT)

    def start(self, task: Task, messages: Sequence[Message]) -> None:
        """Reset to `task`. Raises AssertionError where the prompt names another start room."""
        payload = task.payload
        self._env.load(payload["kind"], payload["variation"], payload["simplification"])
        look, _info = self._env.reset()
        room = messages[-1].content.rpartition("You are in the ")[2].rstrip(".")
        assert f"called the {room}." in look, f"{task.id} starts elsewhere than in the {room}: {look[:80]!r}"

    def step(self, action: str) -> Step:
        observation, _reward, done, info = self._env.step(gateway_text(action))
        score = info["score"] / 100
        return Step(
            observation=cut_at_line(observation.strip(), self._limit),
            reward=min(max(score, 0.0), 1.0),
            terminated=done,
            success=done and score >= 1.0,
            score=score,
        )

    def close(self) -> None:
        self._env.close()


def same_histories(ours: Trajectory, theirs: Trajectory) -> Iterator[tuple[int, bool]]:
    """(turn, whether the actions are equal) as long as everything before the turn was equal."""
    if ours.messages != theirs.messages:
        return
    for number, (a, b) in enumerate(zip(ours.turns, theirs.turns, strict=False)):
        yield number, a.action == b.action
        if (a.action, a.observation) != (b.action, b.observation):
            return


def check_turn(player: OneByOne, renderer: Renderer, trajectory: Trajectory, number: int) -> list[str]:
    """What the reference's way writes on eto's history of one turn: [`equal`] or [`tie`].

    With `own ids` besides, where the history encoded again gives other tokens than were sampled
    and the answer differs: eto's tokens are then the prompt. Raises AssertionError where the two
    write different actions and the likeliest token is clear.
    """
    turn = trajectory.turns[number]
    said = player.act(as_chat(trajectory.messages, trajectory.turns[:number]))
    if said.text == turn.action:
        return ["equal"]
    rendered = renderer.render(trajectory)
    prompt = list(rendered.ids[: rendered.turns.index(number)])
    how = []
    if prompt != said.prompt:
        how, said = ["own ids"], player.go_on(prompt)
        if said.text == turn.action:
            return ["equal", *how]
    shared = common_prefix(list(turn.action_ids), said.ids)
    margin = player.margin(said.prompt + said.ids[:shared])
    assert margin < TIE, (
        f"{trajectory.task.id}, turn {number}: eto wrote {turn.action!r}, the reference's way {said.text!r}, "
        f"with {margin:.2g} between its two likeliest tokens"
    )
    return ["tie", *how]
