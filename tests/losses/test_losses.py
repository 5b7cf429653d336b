"""Losses against numbers worked out by hand, and DPO against TRL on the same ids and masks."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import trajectory
from torch import tensor
from trl import DPOConfig, DPOTrainer

from eto.credit.contrast import shared_turns
from eto.credit.turn_weights import turn_weights
from eto.losses.cloning import sft_loss
from eto.losses.preference import (
    apo_zero_loss,
    dpo_loss,
    dpop_loss,
    ipo_loss,
    kto_loss,
    log_ratio_difference,
    robust_dpo_loss,
    sequence_log_prob,
)
from eto.settings import ContrastSettings, DpoSettings
from eto.tokens.prefix_tree import build_tree
from eto.training import preference as dpo_module
from eto.training.cloning import _objective
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs, TreeLogProbs
from eto.training.loop import Example
from eto.training.pair_examples import pair_example
from eto.training.preference import pair_loss
from eto.types import Pair

# Two sides of a pair whose agent tokens have these probabilities now and under the reference.
CHOSEN, CHOSEN_REFERENCE = (0.5, 0.8, 0.9), (0.4, 0.5, 0.9)
REJECTED, REJECTED_REFERENCE = (0.1, 0.5), (0.2, 0.6)


def logs(probabilities):
    return torch.tensor([math.log(p) for p in probabilities])


def hand_margin() -> float:
    chosen = math.log(0.5 * 0.8 * 0.9) - math.log(0.4 * 0.5 * 0.9)
    rejected = math.log(0.1 * 0.5) - math.log(0.2 * 0.6)
    return chosen - rejected


def test_margin_by_hand():
    sums = [sequence_log_prob(logs(p)) for p in (CHOSEN, REJECTED, CHOSEN_REFERENCE, REJECTED_REFERENCE)]
    assert float(log_ratio_difference(*sums)) == pytest.approx(hand_margin(), abs=1e-6)
    # ln 2 - ln (5/12)
    assert hand_margin() == pytest.approx(math.log(24 / 5))


def test_dpo_by_hand():
    # sigmoid(0.5 * ln 4.8) = sqrt(4.8) / (1 + sqrt(4.8))
    root = math.sqrt(4.8)
    expected = -math.log(root / (1 + root))
    assert float(dpo_loss(tensor(hand_margin()), 0.5)) == pytest.approx(expected, abs=1e-6)
    assert float(dpo_loss(tensor(0.0), 0.1)) == pytest.approx(math.log(2))
    many = dpo_loss(tensor([0.0, math.log(3)]), 1.0)
    assert many.tolist() == pytest.approx([math.log(2), math.log(4 / 3)])


def test_dpo_gradient_by_hand():
    # d loss / d margin = -beta * (1 - sigmoid(beta * margin))
    margin = tensor(hand_margin(), requires_grad=True)
    dpo_loss(margin, 0.5).backward()
    assert float(margin.grad) == pytest.approx(-0.5 / (1 + math.sqrt(4.8)), abs=1e-6)


def test_label_smoothing_by_hand():
    # With odds 3 for the label: 0.9 * ln(4/3) + 0.1 * ln 4.
    loss = dpo_loss(tensor(math.log(3)), 1.0, label_smoothing=0.1)
    assert float(loss) == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_robust_by_hand():
    """Odds 3 for the label, a tenth flipped: (0.9 ln(4/3) - 0.1 ln 4) / 0.8; without flips it is DPO's."""
    loss = robust_dpo_loss(tensor(math.log(3)), 1.0, 0.1)
    assert float(loss) == pytest.approx((0.9 * math.log(4 / 3) - 0.1 * math.log(4)) / 0.8)
    assert float(robust_dpo_loss(tensor(0.7), 0.5, 0.0)) == pytest.approx(float(dpo_loss(tensor(0.7), 0.5)))


def test_dpop_by_hand():
    """What chosen gained costs nothing; what it lost, here ln 2, counts three times more."""
    gained = dpop_loss(tensor(math.log(2)), tensor(0.0), 1.0, 3.0)
    assert float(gained) == pytest.approx(-math.log(2 / 3))
    lost = dpop_loss(tensor(-math.log(2)), tensor(-math.log(32)), 1.0, 3.0)
    margin = -math.log(2) + math.log(32) - 3 * math.log(2)
    assert float(lost) == pytest.approx(math.log(1 + math.exp(-margin)))
    assert float(dpop_loss(tensor(-1.0), tensor(-2.0), 0.3, 0.0)) == pytest.approx(
        float(dpo_loss(tensor(1.0), 0.3))
    )


def test_apo_zero_by_hand():
    loss = apo_zero_loss(tensor([math.log(3), 0.0]), tensor([-math.log(4), 0.0]), 1.0)
    assert loss.tolist() == pytest.approx([1 - 3 / 4 + 1 / 5, 1.0])


def test_apo_zero_pulls_each_side_by_itself():
    chosen, rejected = tensor(0.2, requires_grad=True), tensor(-0.3, requires_grad=True)
    apo_zero_loss(chosen, rejected, 0.5).backward()
    assert float(chosen.grad) < 0 < float(rejected.grad)


def test_kto_by_hand():
    """Odds 3 against the reference point: 1/4 where desirable, 3/4 where not; it moves with the point."""
    ratios, desirable = tensor([math.log(3), math.log(3)]), tensor([True, False])
    assert kto_loss(ratios, desirable, 1.0).tolist() == pytest.approx([0.25, 0.75])
    shifted = kto_loss(ratios, desirable, 1.0, reference_point=math.log(3))
    assert shifted.tolist() == pytest.approx([0.5, 0.5])


def test_an_anchor_in_the_unit_of_the_pull():
    """A sum holds each of chosen's tokens with the weight, a mean with the weight over their number."""
    leaves = [TokenOutputs(logs(CHOSEN)), TokenOutputs(logs(REJECTED))]
    plain, _ = pair_loss(example(), leaves, DpoSettings(beta=0.5))
    mean, _ = pair_loss(example(), leaves, DpoSettings(beta=0.5, sft_weight=0.3))
    total, _ = pair_loss(example(), leaves, DpoSettings(beta=0.5, sft_weight=0.3, anchor="sum"))
    assert float(total - plain) == pytest.approx(-0.3 * sum(map(math.log, CHOSEN)), abs=1e-5)
    assert float(total - plain) == pytest.approx(3 * float(mean - plain), abs=1e-5)


def test_the_pull_at_the_start_is_half_of_beta():
    chosen, rejected = torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)
    zeros = (torch.zeros(3).numpy(), torch.zeros(2).numpy())
    start = Example(example().tree, example().weights, references={"reference": zeros})
    loss, _ = pair_loss(start, [TokenOutputs(chosen), TokenOutputs(rejected)], DpoSettings(beta=0.5))
    loss.backward()
    assert chosen.grad.tolist() == pytest.approx([-0.25] * 3)
    assert rejected.grad.tolist() == pytest.approx([0.25] * 2)


def test_ipo_by_hand():
    assert float(ipo_loss(tensor(1.5), 0.1)) == pytest.approx((1.5 - 5.0) ** 2)
    assert float(ipo_loss(tensor(5.0), 0.1)) == 0.0


def test_weighted_sums_by_hand():
    values = logs(CHOSEN)
    weights = tensor([1.0, 0.0, 0.5])
    weighted = math.log(0.5) + 0.5 * math.log(0.9)
    assert float(sequence_log_prob(values, weights)) == pytest.approx(weighted)
    assert float(sft_loss(values)) == pytest.approx(-math.log(0.5 * 0.8 * 0.9) / 3)
    assert float(sft_loss(values, weights)) == pytest.approx(-weighted / 1.5)
    assert float(sft_loss(values, torch.zeros(3))) == 0.0


def example(weights=((1, 1, 1), (1, 1))) -> Example:
    tree = build_tree([([7, 1, 2, 3], [-1, 0, 0, 1]), ([7, 4, 5], [-1, 0, 1])])
    reference = (logs(CHOSEN_REFERENCE).numpy(), logs(REJECTED_REFERENCE).numpy())
    return Example(
        tree,
        tuple(tensor(w, dtype=torch.float32).numpy() for w in weights),
        references={"reference": reference},
    )


def test_pair_loss_by_hand():
    loss, figures = pair_loss(
        example(), [TokenOutputs(logs(CHOSEN)), TokenOutputs(logs(REJECTED))], DpoSettings(beta=0.5)
    )
    root = math.sqrt(4.8)
    assert float(loss) == pytest.approx(-math.log(root / (1 + root)), abs=1e-6)
    assert figures == pytest.approx(
        {
            "margin": 0.5 * math.log(4.8),
            "accuracy": 1.0,
            "chosen_drift": math.log(2),
            "rejected_drift": math.log(5 / 12),
            "chosen_drift_per_token": math.log(2) / 3,
        },
        abs=1e-6,
    )


def test_pair_loss_weighs_policy_and_reference_alike():
    leaves = [TokenOutputs(logs(CHOSEN)), TokenOutputs(logs(REJECTED))]
    loss, figures = pair_loss(example(((0, 1, 0), (0.5, 0))), leaves, DpoSettings(beta=1.0))
    margin = math.log(0.8 / 0.5) - 0.5 * math.log(0.1 / 0.2)
    assert figures["margin"] == pytest.approx(margin, abs=1e-6)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-margin)), abs=1e-6)
    # Drifts count the tokens that carry the contrast, with weight 1.
    assert figures["chosen_drift"] == pytest.approx(math.log(0.8 / 0.5), abs=1e-6)
    assert figures["rejected_drift"] == pytest.approx(math.log(0.1 / 0.2), abs=1e-6)


def test_pair_loss_with_anchor_and_ipo_by_hand():
    leaves = [TokenOutputs(logs(CHOSEN)), TokenOutputs(logs(REJECTED))]
    anchored, _ = pair_loss(example(), leaves, DpoSettings(beta=0.5, sft_weight=0.3))
    plain, _ = pair_loss(example(), leaves, DpoSettings(beta=0.5))
    assert float(anchored - plain) == pytest.approx(-0.1 * math.log(0.36), abs=1e-6)
    ipo, _ = pair_loss(example(), leaves, DpoSettings(beta=0.5, loss="ipo"))
    assert float(ipo) == pytest.approx((hand_margin() - 1.0) ** 2, abs=1e-5)


def test_cloning_sums_to_the_mean_over_a_steps_tokens():
    one = Example(example().tree, (), size=3.0)
    other = Example(example().tree, (), size=2.0)
    total = sum(
        float(_objective(e, [TokenOutputs(logs(leaf))])[0]) for e, leaf in ((one, CHOSEN), (other, REJECTED))
    )
    assert total / 5 == pytest.approx(-math.log(0.36 * 0.05) / 5)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"shapes differ: \(3,\), \(1,\)"):
        sequence_log_prob(torch.zeros(3), torch.ones(1))
    with pytest.raises(ValueError, match="one value a token"):
        sft_loss(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="shapes differ"):
        log_ratio_difference(*[torch.zeros(2)] * 3, torch.zeros(1))


# -- the same pairs through TRL -----------------------------------------------------------


def pairs() -> list[Pair]:
    """Multi-turn pairs: a shared start, none, and one side a prefix of the other."""
    north, south, wait = ("go north", "a door"), ("go south", "Nothing happens."), ("wait", "")
    sides = [
        ((north, ("open the door", "The door is open."), ("take apple", "")), (north, south, south, wait)),
        ((south, ("look around", "")), (("put the cup in the sink", "no"), wait)),
        ((north, south, ("read book", "")), (north, south)),
    ]
    result = []
    for number, (better, worse) in enumerate(sides):
        chosen = trajectory(*better, number=number, prompt=f"Task {number}.")
        rejected = trajectory(*worse, number=number, prompt=f"Task {number}.", reward=0.0, source="sft")
        result.append(Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected)))
    return result


def perturbed(model):
    """A copy that differs from `model` enough for log-ratios of nats."""
    other = copy.deepcopy(model)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in other.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return other


def rendered_rows(policy: Learner, pair: Pair) -> dict[str, list[int]]:
    row = {}
    for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        rendered = policy.renderer.render(side)
        row[f"{name}_ids"], row[f"{name}_mask"] = list(rendered.ids), list(rendered.mask)
    return row


class TrajectoryDPO(DPOTrainer):
    """TRL's trainer on ids and masks with holes; its own data preparation would mask the prompt alone."""

    def _prepare_dataset(self, dataset, *_args, **_kwargs):
        return dataset

    def _set_signature_columns_if_needed(self):
        self._signature_columns = ["chosen_ids", "chosen_mask", "rejected_ids", "rejected_mask"]


def collate(rows):
    """Right-padded chosen rows, then rejected rows."""
    both = [(r[f"{side}_ids"], r[f"{side}_mask"]) for side in ("chosen", "rejected") for r in rows]
    longest = max(len(ids) for ids, _ in both)

    def padded(columns):
        return torch.tensor([[*column, *[0] * (longest - len(column))] for column in columns])

    return {
        "input_ids": padded([ids for ids, _ in both]),
        "attention_mask": padded([[1] * len(ids) for ids, _ in both]),
        "completion_mask": padded([mask for _, mask in both]),
    }


def trl_loss_and_gradients(policy, trained, rows, folder: Path, **options):
    arguments = DPOConfig(
        output_dir=str(folder), report_to="none", max_length=None, bf16=False, use_cpu=True, **options
    )
    reference = copy.deepcopy(policy.model)
    trainer = TrajectoryDPO(
        model=trained,
        ref_model=reference.eval(),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
        data_collator=collate,
    )
    loss = trainer.compute_loss(trained, collate(rows))
    trained.zero_grad()
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in trained.named_parameters()}


def tree_loss_and_gradients(policy, trained, settings: DpoSettings):
    """The mean pair loss of `trained`, with `policy` as the reference, as `dpo` computes it."""
    examples = [pair_example(policy, pair, ContrastSettings(), settings) for pair in pairs()]
    examples = dpo_module.with_reference(policy, examples, 512, None)
    leaves = TreeLogProbs(trained).outputs([e.tree for e in examples])
    losses = [pair_loss(e, sides, settings)[0] for e, sides in zip(examples, leaves, strict=True)]
    loss = torch.stack(losses).mean()
    trained.zero_grad()
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in trained.named_parameters()}


def whole_example(policy, pair: Pair, weighting: ContrastSettings, settings: DpoSettings) -> Example:
    """The pair with every token of both sides."""
    rendered = [policy.renderer.render(side) for side in (pair.chosen, pair.rejected)]
    tree = build_tree([(side.ids, side.turns) for side in rendered])
    weights = [
        np.asarray(by_turn, dtype=np.float32)[leaf.turns]
        for by_turn, leaf in zip(turn_weights(pair, weighting), tree.leaves, strict=True)
    ]
    if settings.loss == "length_normalised":
        weights = [w / w.sum() for w in weights]
    return Example(tree, tuple(weights))


@pytest.mark.parametrize(
    "settings",
    [
        DpoSettings(beta=0.7),
        DpoSettings(beta=0.7, sft_weight=0.5),
        DpoSettings(loss="ipo"),
        DpoSettings(loss="length_normalised"),
        DpoSettings(loss="dpop", beta=0.7, dpop_penalty=2.0),
        DpoSettings(loss="apo_zero", beta=0.7),
    ],
    ids=["paper", "anchored", "ipo", "length normalised", "dpop", "apo zero"],
)
@pytest.mark.parametrize(
    "weighting",
    [
        ContrastSettings(),
        ContrastSettings(turns="window", window=1),
        ContrastSettings(discount=0.5, discount_kind="dmpo"),
    ],
    ids=["all", "window", "dmpo"],
)
def test_what_a_pair_leaves_out_changes_neither_loss_nor_gradients(tiny_policy, settings, weighting):
    policy, trained = tiny_policy, perturbed(tiny_policy.model)
    found = []
    kept = [pair for pair in pairs() if all(any(side) for side in turn_weights(pair, weighting))]
    for make in (pair_example, whole_example):
        examples = [make(policy, pair, weighting, settings) for pair in kept]
        sizes = sum(len(leaf.targets) for e in examples for leaf in e.tree.leaves)
        examples = dpo_module.with_reference(policy, examples, 512, None)
        leaves = TreeLogProbs(trained).outputs([e.tree for e in examples])
        scored = [pair_loss(e, sides, settings) for e, sides in zip(examples, leaves, strict=True)]
        trained.zero_grad()
        torch.stack([loss for loss, _ in scored]).sum().backward()
        gradients = {name: p.grad.clone() for name, p in trained.named_parameters()}
        found.append((sizes, [float(loss.detach()) for loss, _ in scored], gradients))
    (fewer, losses, gradients), (all_tokens, expected, expected_gradients) = found
    assert fewer < all_tokens or (settings.loss, weighting.turns) != ("sigmoid", "window")
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-5)
    largest = max(float(g.abs().max()) for g in expected_gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected_gradients[name], atol=1e-5 * max(1.0, largest), rtol=1e-4, msg=name
        )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (DpoSettings(beta=0.1), {"beta": 0.1}),
        (DpoSettings(beta=0.7), {"beta": 0.7}),
        (DpoSettings(beta=3.0, loss="length_normalised"), {"beta": 3.0, "loss_type": ["sigmoid_norm"]}),
        (
            DpoSettings(beta=0.7, loss="robust", label_smoothing=0.2),
            {"beta": 0.7, "loss_type": ["robust"], "label_smoothing": 0.2},
        ),
        (DpoSettings(beta=0.7, loss="apo_zero"), {"beta": 0.7, "loss_type": ["apo_zero"]}),
    ],
    ids=["paper", "large beta", "length normalised", "robust", "apo zero"],
)
def test_dpo_is_trls(tiny_policy, tmp_path, settings, options):
    trained = perturbed(tiny_policy.model)
    rows = [rendered_rows(tiny_policy, pair) for pair in pairs()]
    expected, expected_gradients = trl_loss_and_gradients(
        tiny_policy, copy.deepcopy(trained), rows, tmp_path, **options
    )
    found, gradients = tree_loss_and_gradients(tiny_policy, trained, settings)
    assert abs(found - math.log(2)) > 0.01, "a policy like its reference shows nothing"
    assert found == pytest.approx(expected, abs=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_trls_own_mask_would_differ(tiny_policy, tmp_path):
    """The comparison sees the mask: with the observations in the loss the value is another."""
    trained = perturbed(tiny_policy.model)
    rows = [rendered_rows(tiny_policy, pair) for pair in pairs()]
    filled = []
    for row in rows:
        after = {
            f"{side}_mask": [
                int(any(row[f"{side}_mask"][: at + 1])) for at in range(len(row[f"{side}_mask"]))
            ]
            for side in ("chosen", "rejected")
        }
        filled.append({**row, **after})
    masked, _ = trl_loss_and_gradients(tiny_policy, copy.deepcopy(trained), rows, tmp_path, beta=0.1)
    unmasked, _ = trl_loss_and_gradients(tiny_policy, trained, filled, tmp_path, beta=0.1)
    assert abs(masked - unmasked) > 1e-3
