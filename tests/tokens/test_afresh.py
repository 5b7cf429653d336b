"""Turns that begin afresh: the agent reads system messages and the last observation, acting and trained."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from eto.data.foreign.written import pair_to_sharegpt, pair_to_trl
from eto.data.records import trajectory_from_record, trajectory_to_record
from eto.engines.scripted import scripted_actor
from eto.environments import load_suite
from eto.errors import InputError
from eto.rollout.experts import collect_experts
from eto.rollout.rollouts import rollouts
from eto.settings import RolloutSettings
from eto.tokens.rendering import Renderer
from eto.training.backends.core_groups import grouped_log_probs
from eto.training.cloning import sft_example
from eto.training.learner import Learner
from eto.types import Message, Pair, StopReason, Trajectory

SUMMARY = {"horizon": 6, "context": "summary", "tasks_per_split": 2}
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def policy(template: str | None = None, **options) -> Learner:
    tokenizer = tiny_tokenizer(template) if template else tiny_tokenizer()
    return Learner(tiny_model(len(tokenizer), max_position_embeddings=2048), tokenizer, **options)


def played(agent: Learner, count: int = 1) -> tuple[Trajectory, ...]:
    """Greedy episodes, with the ids and log-probs of their actions."""
    suite = load_suite("bandit", **SUMMARY)
    settings = RolloutSettings(max_action_tokens=4)
    return tuple(rollouts(agent.actor("a"), suite, suite.tasks("train")[:count], settings=settings))


@pytest.mark.parametrize("template", [None, NO_SYSTEM])
def test_each_action_is_trained_in_the_context_it_was_written_in(template: str | None) -> None:
    agent = policy(template, dtype="float32")
    [episode] = played(agent)
    assert episode.stop is StopReason.TERMINATED and all(turn.afresh for turn in episode.turns)
    samples = agent.renderer.samples(episode)
    assert len(samples) == len(episode.turns) == 6
    system, first = episode.messages
    asked = [first.content, *(turn.observation for turn in episode.turns[:-1])]
    for number, (sample, turn, observation) in enumerate(zip(samples, episode.turns, asked, strict=True)):
        prompt = agent.renderer.prompt_ids([system, Message("user", observation)])
        assert list(sample.ids) == prompt + list(turn.action_ids or ())
        assert list(sample.turns) == [-1] * len(prompt) + [number] * len(turn.action_ids or ())
        assert f"{6 - number} choices left" in agent.renderer.text(sample.ids)


def test_the_trainer_scores_what_the_engine_sampled() -> None:
    agent = policy(dtype="float32")
    [episode] = played(agent)
    ((found,),) = grouped_log_probs(agent.model, [sft_example(agent, episode).tree], torch.float32, 4096)
    recorded = [each for turn in episode.turns for each in turn.log_probs or ()]
    assert found.tolist() == pytest.approx(recorded, abs=1e-4)


def test_a_long_episode_fits_where_each_prompt_does() -> None:
    """1,000 steps: a raw history ends out of tokens, summaries do not."""
    agent = scripted_actor(lambda messages: "A")
    agent.engine.max_context = 24  # two messages of a role and a text each, and an action
    hard = {"kinds": ["bernoulli-hard-5-video"], "tasks_per_split": 1}
    for context, stop in (("raw", StopReason.OUT_OF_TOKENS), ("summary", StopReason.TERMINATED)):
        suite = load_suite("bandit", context=context, **hard)
        settings = RolloutSettings(max_action_tokens=2)
        [episode] = rollouts(agent, suite, suite.tasks("test"), settings=settings)
        assert episode.stop is stop and (len(episode.turns) == 1000) == (context == "summary")


def test_what_is_read_is_the_last_observation_alone() -> None:
    read: list[Sequence[Message]] = []

    def answer(messages: Sequence[Message]) -> str:
        read.append(messages)
        return "B"

    suite = load_suite("bandit", **SUMMARY)
    [episode] = rollouts(scripted_actor(answer), suite, suite.tasks("dev")[:1])
    assert [[message.role for message in messages] for messages in read] == [["system", "user"]] * 6
    assert [messages[1].content for messages in read[1:]] == [t.observation for t in episode.turns[:-1]]


def test_experts_and_files_keep_the_mark() -> None:
    suite = load_suite("bandit", **SUMMARY)
    [expert] = collect_experts(suite, suite.tasks("train")[:1], workers=0)
    assert all(turn.afresh for turn in expert.turns)
    record = trajectory_to_record(expert)
    assert record["turns"][0]["afresh"] is True and trajectory_from_record(record) == expert
    raw = load_suite("bandit", horizon=6)
    [other] = collect_experts(raw, raw.tasks("train")[:1], workers=0)
    assert "afresh" not in trajectory_to_record(other)["turns"][0]
    for thoughts in ("auto", "keep"):
        renderer = Renderer(tiny_tokenizer(), thoughts=thoughts)
        assert len(renderer.samples(expert)) == 6 and len(renderer.samples(other)) == 1


def test_conversations_of_other_tools_have_no_place_for_them() -> None:
    suite = load_suite("bandit", **SUMMARY)
    [expert] = collect_experts(suite, suite.tasks("train")[:1], workers=0)
    other = replace(expert, turns=(replace(expert.turns[0], action="B"), *expert.turns[1:]), reward=0.0)
    pair = Pair(expert.task, expert, other, shared_turns=0)
    for write in (pair_to_sharegpt, pair_to_trl):
        with pytest.raises(InputError, match="begin afresh"):
            write(pair)


def test_a_prefix_is_recalled_afresh() -> None:
    """A dialogue that goes on from given turns stands where the episode stood."""
    agent = policy(dtype="float32")
    [episode] = played(agent)
    actor = agent.actor("a")
    dialogue = actor.dialogue(episode.messages, episode.turns[:3], room=4)
    assert (
        dialogue.ids
        == actor.renderer.talk([episode.messages[0], Message("user", episode.turns[2].observation)]).ids
    )
    turn = asyncio.run(dialogue.act(actor.sampling(4)))
    assert turn.action_ids == episode.turns[3].action_ids
