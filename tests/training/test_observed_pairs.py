"""What the environment answered is predicted beside a preference loss: its tokens, its loss, its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from test_loop import policy
from tiny import trajectory

from eto.credit.contrast import shared_turns
from eto.settings import ContrastSettings, DpoSettings
from eto.training.example import Example
from eto.training.log_probs import TreeLogProbs
from eto.training.pair_examples import contrasted, pair_example
from eto.training.preference import _decisive, pair_loss, preference, with_reference
from eto.types import Pair, Trajectory

ALL = ContrastSettings()


def pair_of(chosen: Trajectory, rejected: Trajectory) -> Pair:
    return Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected))


CHOSEN = trajectory(
    ("look around", "You see a door."),
    ("open the door", "The door is now open."),
    ("take the apple", "Well done!"),
)
REJECTED = replace(
    trajectory(("look around", "You see a door."), ("wait", "Nothing happens."), ("wait", "")),
    reward=0.0,
    source="sft",
)
PAIR = pair_of(CHOSEN, REJECTED)


def words(learner, example: Example) -> list[str]:
    """The text of each leaf of observations."""
    return [learner.renderer.tokenizer.decode(leaf.targets) for leaf in example.tree.leaves[2:]]


def test_each_answer_of_both_sides_once_and_nothing_else(tiny_path):
    learner = policy(tiny_path)
    example = pair_example(learner, PAIR, ALL, DpoSettings(observation_weight=0.5))
    assert words(learner, example) == ["You see a door.The door is now open.Well done!", "Nothing happens."]
    plain = pair_example(learner, PAIR, ALL, DpoSettings())
    for watched, bare in zip(example.tree.leaves, plain.tree.leaves, strict=False):
        assert watched.targets.tolist() == bare.targets.tolist()
    encode = learner.renderer.tokenizer.encode
    counted = [
        sum(len(encode(text, add_special_tokens=False)) for text in texts)
        for texts in (
            ("You see a door.", "The door is now open.", "Well done!"),
            ("Nothing happens.",),
        )
    ]
    assert [len(leaf.targets) for leaf in example.tree.leaves[2:]] == counted


def test_turns_that_are_context_are_not_predicted(tiny_path):
    """A pair of single actions after a prefix: the answers to these two alone."""
    context = replace(CHOSEN.turns[0], loss=False)
    one, other = (replace(side, turns=(context, side.turns[1])) for side in (CHOSEN, REJECTED))
    learner = policy(tiny_path)
    example = pair_example(learner, pair_of(one, other), ALL, DpoSettings(observation_weight=0.5))
    assert words(learner, example) == ["The door is now open.", "Nothing happens."]


@pytest.mark.parametrize("loss", ["sigmoid", "length_normalised", "apo_zero"])
def test_the_gradient_is_the_sum_of_both_parts(tiny_path, loss: str):
    """(1) the preference loss alone, (2) 0.5 x the mean over the observations' tokens by a plain pass."""
    learner = policy(tiny_path)
    settings = DpoSettings(loss=loss, sft_weight=0.3)
    both = gradient_of(learner, settings.replace(observation_weight=0.5))
    alone = gradient_of(learner, settings)
    learner.model.zero_grad()
    nlls = []
    for side, turns in ((CHOSEN, (0, 1, 2)), (REJECTED, (1,))):
        [rendered] = learner.renderer.samples(side, to_the_end=True)
        ids = torch.tensor([rendered.ids])
        logs = learner.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        each = -logs.gather(-1, ids[0, 1:, None])[:, 0]
        nlls.append(each[[turn in turns for turn in rendered.observations[1:]]])
    (0.5 * torch.cat(nlls).mean()).backward()
    for name, p in learner.model.named_parameters():
        observed = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(both[name], alone[name] + observed, atol=2e-5, rtol=1e-3, msg=name)
        assert p.grad is None or not p.grad.any() or not torch.equal(both[name], alone[name])


def gradient_of(learner, settings: DpoSettings) -> dict[str, torch.Tensor]:
    [(_, example)], _ = contrasted(learner, [PAIR], ALL, settings)
    [example] = with_reference(learner, [example], None, None)
    learner.model.zero_grad()
    [outputs] = TreeLogProbs(learner.model).outputs([example.tree])
    loss, figures = pair_loss(example, outputs, settings)
    assert ("observation_nll" in figures) == (settings.observation_weight > 0)
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in learner.model.named_parameters()
    }


def trained(learner, settings: DpoSettings) -> Sequence[dict[str, float]]:
    return [step.figures for step in preference(learner, [PAIR], settings)]


def test_without_a_weight_nothing_is_there_to_predict_or_to_pass(tiny_path):
    """Rows end with the last token that carries the contrast, and earlier states of training stay valid."""
    learner = policy(tiny_path)
    bare, watched = (
        pair_example(learner, PAIR, ALL, DpoSettings(observation_weight=weight)) for weight in (0.0, 0.5)
    )
    assert len(bare.tree.leaves) == len(bare.weights) == 2 and len(bare.tree) < len(watched.tree)
    assert len(watched.tree.paths) == 2, "a side and its observations are one row"
    [plain] = learner.renderer.samples(CHOSEN)
    assert len(bare.tree.paths[0]) == len(plain.ids)
    assert _decisive(DpoSettings(observation_weight=0.0)) == _decisive(DpoSettings())
    assert _decisive(DpoSettings(observation_weight=0.5)) != _decisive(DpoSettings())


def test_observations_are_learnt_beside_the_preference(tiny_path):
    rows = trained(policy(tiny_path), DpoSettings(epochs=30, learning_rate=2e-3, observation_weight=1.0))
    assert rows[-1]["observation_nll"] < rows[0]["observation_nll"] - 1.0
    assert rows[-1]["accuracy"] == 1.0 and rows[-1]["margin"] > 0.1
