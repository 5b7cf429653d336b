"""Trees give the log-probs and gradients of one plain row a trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import (
    AttentionInterface,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from eto.cpu import branch_attention
from eto.tokens.prefix_tree import build_tree, lay_out
from eto.training import attention, log_probs
from eto.training.backends.core_groups import grouped_log_probs
from eto.training.log_probs import CHUNK, TreeLogProbs

sequences = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=9), min_size=1, max_size=5)


@given(sequences)
@settings(max_examples=300, deadline=None)
def test_a_row_is_the_trie_of_its_sequences(ids):
    tree = build_tree([(sequence, [0] * len(sequence)) for sequence in ids])
    prefixes = {tuple(sequence[: k + 1]) for sequence in ids for k in range(len(sequence))}
    assert len(tree) == len(prefixes)
    assert tree.plain_tokens == sum(map(len, ids))
    visible = tree.visible()
    reached = set()
    for sequence, leaf in zip(ids, tree.leaves, strict=True):
        # With every token the agent's, the sources are the whole path but its last token.
        last = [
            row
            for row in range(len(tree))
            if tree.positions[row] == len(sequence) - 1
            and tree.ids[row] == sequence[-1]
            and visible[row, leaf.sources].all()
        ]
        assert len(last) == 1
        path = [*leaf.sources.tolist(), *last]
        assert tree.ids[path].tolist() == sequence
        assert tree.positions[path].tolist() == list(range(len(sequence)))
        assert leaf.targets.tolist() == sequence[1:]
        for depth, row in enumerate(path):
            assert np.flatnonzero(visible[row]).tolist() == sorted(path[: depth + 1])
        reached.update(path)
    assert reached == set(range(len(tree)))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_only_the_agents_tokens_are_predicted(data):
    ids = data.draw(sequences)
    turns = [data.draw(st.lists(st.integers(-1, 2), min_size=len(s), max_size=len(s))) for s in ids]
    tree = build_tree(list(zip(ids, turns, strict=True)))
    for sequence, labels, leaf in zip(ids, turns, tree.leaves, strict=True):
        wanted = [(i, t) for i, t in zip(sequence[1:], labels[1:], strict=True) if t >= 0]
        assert list(zip(leaf.targets.tolist(), leaf.turns.tolist(), strict=True)) == wanted
        assert (tree.positions[leaf.sources] + 1).tolist() == [
            at for at, t in enumerate(labels) if t >= 0 and at
        ]


@dataclass(frozen=True)
class Case:
    """Lengths of the segments, alternately the environment's and the agent's."""

    shared: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]


CASES = {
    "pair": Case((5, 20, 7), ((9, 4, 12), (8, 30))),
    "pair, no shared prefix": Case((), ((6, 9, 4), (11, 2))),
    "one the prefix of the other": Case((5, 20, 7, 9), ((), (4, 12))),
    "twice the same": Case((5, 20, 7), ((3, 3), (3, 3))),
    "triple": Case((4, 11), ((9, 4), (8, 30, 5), (2, 2, 2))),
    "triple, two share more": Case((4, 11), ((9, 4), (9, 4, 6, 6), (12,))),
    "one trajectory": Case((4, 11, 3), ((9,),)),
}


def trajectories(case: Case, vocabulary: int = 400) -> list[tuple[list[int], list[int]]]:
    """(ids, turns) of each trajectory; segments of one length at one place are equal."""
    result = []
    for tail in case.tails:
        ids: list[int] = []
        turns: list[int] = []
        for number, length in enumerate((*case.shared, *tail)):
            ids += np.random.default_rng((number, length)).integers(0, vocabulary, length).tolist()
            turns += [number // 2 if number % 2 else -1] * length
        result.append((ids, turns))
    return result


def plain(model, ids, turns) -> torch.Tensor:
    """Token log-probs from transformers' own forward pass of this one trajectory."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
    scores = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[1:, None])[:, 0]
    return scores[torch.tensor(turns)[1:] >= 0]


def gradients(model, value: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def objective(leaves: list[torch.Tensor]) -> torch.Tensor:
    """A smooth function in which every token and every leaf counts differently."""
    weighted = [(leaf * torch.linspace(0.5, 1.5, len(leaf))).mean() for leaf in leaves]
    return sum((k + 1) * torch.sigmoid(value / 4) for k, value in enumerate(weighted))


def assert_exact(model, batch: list[list[tuple[list[int], list[int]]]]) -> None:
    """Log-probs and gradients of a batch of trees are those of plain rows, within 1e-5."""
    expected = [plain(model, *sequence) for group in batch for sequence in group]
    expected_gradients = gradients(model, objective(expected))
    found = [leaf for tree in TreeLogProbs(model)([build_tree(g) for g in batch]) for leaf in tree]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert max(one.abs().max() for one in expected) > 1, "a model that predicts nothing shows nothing"
    for name, gradient in gradients(model, objective(found)).items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-5, rtol=1e-4, msg=name)
    assert all(g.abs().max() > 1e-4 for g in expected_gradients.values())


def test_a_models_own_attention_is_left_as_it_was():
    model = tiny_model(434)
    ids, turns = trajectories(CASES["one trajectory"])[0]
    expected = plain(model, ids, turns)
    TreeLogProbs(model)([build_tree([(ids, turns)])])
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(plain(model, ids, turns), expected)


@pytest.mark.parametrize("case", CASES)
def test_a_tree_is_exact(case):
    assert_exact(tiny_model(434), [trajectories(CASES[case])])


def test_trees_end_to_end_are_exact():
    assert_exact(tiny_model(434), [trajectories(case) for case in CASES.values()])


@pytest.mark.parametrize("window", [None, 8, 20])
def test_pieces_are_exact(monkeypatch, window):
    monkeypatch.setattr(branch_attention, "PIECE", 6)
    model = tiny_model(434, MistralForCausalLM, MistralConfig, sliding_window=window)
    assert_exact(model, [trajectories(case) for case in CASES.values()])


def test_trees_that_share_nothing_of_each_other_are_exact(monkeypatch):
    """As on rows whose trees have another task each."""
    monkeypatch.setattr(log_probs, "lay_out", lambda trees: lay_out(trees, 10**6))
    assert_exact(tiny_model(434), [trajectories(case) for case in CASES.values()])


@pytest.mark.parametrize("window", [None, 8])
def test_flex_attention_gives_the_same_log_probs(window):
    """The kernel of GPUs, whose CPU form has no backward pass."""
    model = tiny_model(434, MistralForCausalLM, MistralConfig, sliding_window=window)
    trees = [build_tree(trajectories(case)) for case in CASES.values()]
    expected = grouped_log_probs(model, trees, torch.float32, 10**6)

    def attend(module, query, key, value, mask, scaling=None, sliding_window=None, trees=None, **_):
        return attention._flex(query, key, value, scaling, trees, sliding_window).transpose(1, 2), None

    AttentionInterface.register(attention.TREE_ATTENTION, attend)
    try:
        found = grouped_log_probs(model, trees, torch.float32, 10**6)
    finally:
        AttentionInterface.register(attention.TREE_ATTENTION, attention._attend)
    for one, other in zip(found, expected, strict=True):
        for leaf, same in zip(one, other, strict=True):
            np.testing.assert_allclose(leaf, same, atol=1e-5)


def test_chunks_are_exact():
    long = [([*range(400)] + [7] * 60, [-1] * 20 + [0] * 440), ([*range(300)], [-1] * 20 + [0] * 280)]
    tree = build_tree(long)
    assert sum(len(leaf.targets) for leaf in tree.leaves) > CHUNK
    assert_exact(tiny_model(434), [long])


def test_recomputed_logits_are_exact(monkeypatch):
    monkeypatch.setattr(log_probs, "KEPT_LOGITS", 0)
    assert_exact(tiny_model(434), [trajectories(CASES["triple"])])


def test_scaled_logits_are_exact():
    model = tiny_model(434, GraniteForCausalLM, GraniteConfig, logits_scaling=3.0)
    assert_exact(model, [trajectories(CASES["pair"])])


def test_a_sliding_window_is_exact():
    model = tiny_model(434, MistralForCausalLM, MistralConfig, sliding_window=8)
    assert_exact(model, [trajectories(CASES["pair"]), trajectories(CASES["triple"])])


def test_scoring_without_gradients_agrees_and_keeps_the_order():
    model = tiny_model(434)
    batch = [trajectories(case) for case in CASES.values()]
    trees = [build_tree(group) for group in batch]
    found = [leaf for tree in grouped_log_probs(model, trees, torch.float32, 60) for leaf in tree]
    expected = [plain(model, *sequence) for group in batch for sequence in group]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), atol=1e-5)
