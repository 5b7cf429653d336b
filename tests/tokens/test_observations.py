"""The mask of observations: exact, disjoint from the agent's, and what cloning makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_tokenizer, trajectory

from eto.settings import SftSettings
from eto.tokens.observations import observation_marks
from eto.tokens.rendering import Renderer
from eto.training.cloning import _objective, cloning, sft_example
from eto.training.learner import load_learner
from eto.training.log_probs import TreeLogProbs

EPISODE = trajectory(
    ("go to the kitchen", "You are in the kitchen."),
    ("look around", "You see a red apple."),
    ("take the apple", "Well done!"),
)


def marked_text(renderer, sample, turn: int) -> str:
    ids = [i for i, t in zip(sample.ids, sample.observations, strict=True) if t == turn]
    return renderer.tokenizer.decode(ids)


@pytest.mark.parametrize("to_the_end", [False, True])
def test_the_marks_hold_exactly_the_observations(to_the_end):
    renderer = Renderer(tiny_tokenizer())
    [sample] = renderer.samples(EPISODE, to_the_end=to_the_end)
    assert len(sample.observations) == len(sample.ids)
    texts = [marked_text(renderer, sample, turn) for turn in range(3)]
    last = "Well done!" if to_the_end else ""
    assert texts == ["You are in the kitchen.", "You see a red apple.", last]
    assert not any(a >= 0 and o >= 0 for a, o in zip(sample.turns, sample.observations, strict=True))


def test_the_last_observation_changes_nothing_before_it():
    renderer = Renderer(tiny_tokenizer())
    [plain], [longer] = renderer.samples(EPISODE), renderer.samples(EPISODE, to_the_end=True)
    assert longer.ids[: len(plain.ids)] == plain.ids
    assert longer.turns[: len(plain.turns)] == plain.turns
    assert set(longer.turns[len(plain.turns) :]) == {-1} and longer.dropped_turns == 0
    silent = replace(EPISODE, turns=(*EPISODE.turns[:2], replace(EPISODE.turns[2], observation="")))
    assert renderer.samples(silent, to_the_end=True) == renderer.samples(silent)


def test_what_does_not_fit_is_left_out():
    renderer = Renderer(tiny_tokenizer())
    [plain] = renderer.samples(EPISODE)
    [cut] = renderer.samples(EPISODE, max_tokens=len(plain.ids) + 1, to_the_end=True)
    assert cut == plain


def test_marks_by_hand():
    """Between two actions: 1 2 open the observation, 8 9 close it; a merged token counts as its text."""
    assert observation_marks([1, 2, 5, 6, 8, 9], [1, 2], [8, 9], 4) == [-1, -1, 4, 4, -1, -1]
    assert observation_marks([1, 7, 6, 9], [1, 2], [8, 9], 0) == [-1, 0, 0, -1]
    assert observation_marks([1, 2, 8, 9], [1, 2], [8, 9], 0) == [-1] * 4


def test_the_weighted_mean_by_hand(tiny_path):
    """(sum of the agent's + w times the sum of the observations') / (agent's + w observations' tokens)."""
    learner = load_learner(tiny_path, dtype="float32")
    example = sft_example(learner, EPISODE, observation_weight=0.25)
    [outputs] = TreeLogProbs(learner.model).outputs([example.tree])
    [rendered] = learner.renderer.samples(EPISODE, to_the_end=True)
    ids = torch.tensor([rendered.ids])
    with torch.no_grad():
        logs = learner.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    nll = -logs.gather(-1, ids[0, 1:, None])[:, 0].numpy()
    weights = np.array(
        [
            1.0 if turn >= 0 else 0.25 if seen >= 0 else 0.0
            for turn, seen in zip(rendered.turns[1:], rendered.observations[1:], strict=True)
        ]
    )
    loss, figures = _objective(example, outputs)
    assert example.size == pytest.approx(weights.sum())
    assert float(loss) / example.size == pytest.approx((nll * weights).sum() / weights.sum(), rel=1e-4)
    assert figures["observation_nll"] == pytest.approx(nll[weights == 0.25].mean(), rel=1e-4)


def test_observations_are_learnt(tiny_path):
    """Cloning alone leaves the observations unlikely; with a weight they are predicted."""
    learned = {}
    for weight in (0.0, 0.5):
        learner = load_learner(tiny_path, dtype="float32")
        settings = SftSettings(epochs=30, learning_rate=3e-3, batch_size=1, observation_weight=weight)
        for _ in cloning(learner, [EPISODE], settings):
            pass
        [leaves] = learner.score([sft_example(learner, EPISODE, observation_weight=1.0).tree])
        learned[weight] = [float(leaf.mean()) for leaf in leaves]
    assert learned[0.5][1] > learned[0.0][1] + 1.0
    assert min(learned[0.0][0], learned[0.5][0]) > -0.7, "the actions are cloned either way"
