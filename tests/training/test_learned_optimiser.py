"""The learned optimiser's update, worked out by hand, and its state."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from eto.errors import InputError
from eto.training import learned_optimiser
from eto.training.learned_optimiser import (
    HIDDEN,
    STATE_BYTES,
    LearnedOptimiser,
    UpdateRule,
    load_rule,
    save_rule,
)


def rule_of(seed: int = 0) -> UpdateRule:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UpdateRule()


def zero_rule() -> UpdateRule:
    rule = UpdateRule()
    with torch.no_grad():
        for value in rule.parameters():
            value.zero_()
    return rule


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def gru(cell: nn.GRUCell, x: float, h: np.ndarray) -> np.ndarray:
    """A step of a GRU as its equations are written, in float64."""
    wi, wh, bi, bh = (
        value.detach().numpy().astype(np.float64)
        for value in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    )
    given, kept = wi[:, 0] * x + bi, wh @ h + bh
    reset = sigmoid(given[:8] + kept[:8])
    update = sigmoid(given[8:16] + kept[8:16])
    candidate = np.tanh(given[16:] + reset * kept[16:])
    return (1.0 - update) * candidate + update * h


def linear(layer: nn.Linear, h: np.ndarray) -> float:
    return float(layer.weight.detach().numpy()[0] @ h + layer.bias.detach().numpy()[0])


def test_a_rule_of_zeros_is_sign_descent():
    """Both exponents are 0: m = sign(g), v = 1."""
    weight = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
    weight.grad = torch.tensor([3.0, -0.001, 0.0])
    LearnedOptimiser([weight], zero_rule(), lr=0.5).step()
    assert weight.tolist() == pytest.approx([0.5, 1.5, 1.0])


def test_exponents_scale_the_move():
    """m = sign(g) · e^a and v = e^b: a move of lr · e^(a − b/2)."""
    rule = zero_rule()
    with torch.no_grad():
        rule.log_first.bias.fill_(math.log(6.0))
        rule.log_second.bias.fill_(math.log(4.0))
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([-2.0])
    LearnedOptimiser([weight], rule, lr=0.1).step()
    assert weight.item() == pytest.approx(0.1 * 6.0 / 2.0)


def test_three_steps_by_the_equations():
    rule, weight = rule_of(), nn.Parameter(torch.tensor([[0.5, -1.0]]))
    optimiser = LearnedOptimiser([weight], rule, lr=0.01)
    expected, states = np.array([0.5, -1.0]), [(np.zeros(8), np.zeros(8)) for _ in range(2)]
    for gradients in ([0.3, -2.0], [0.0, 1.5], [-0.7, -0.1]):
        weight.grad = torch.tensor([gradients])
        optimiser.step()
        for i, g in enumerate(gradients):
            h1, h2 = gru(rule.first, g, states[i][0]), gru(rule.second, g * g, states[i][1])
            states[i] = h1, h2
            m = np.sign(g) * math.exp(linear(rule.log_first, h1))
            v = math.exp(linear(rule.log_second, h2))
            expected[i] -= 0.01 * m / math.sqrt(v + 1e-8)
    assert weight[0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_gradient_of_another_sign_moves_the_other_way():
    moves, _ = rule_of()(torch.tensor([0.5, -0.5]), torch.zeros(2, 2 * HIDDEN))
    assert moves[0] < 0 < moves[1]


def test_weights_are_moved_each_alone(monkeypatch):
    """One after the other, two at a time, or as one tensor: the same moves."""
    gradients, ended = torch.linspace(-2, 2, 7), []
    for chunk in (1, 2, 1 << 16):
        monkeypatch.setattr(learned_optimiser, "_CHUNK", chunk)
        weight = nn.Parameter(torch.zeros(7))
        optimiser = LearnedOptimiser([weight], rule_of(), lr=0.1)
        for _ in range(3):
            weight.grad = gradients
            optimiser.step()
        ended.append(weight.detach().clone())
    torch.testing.assert_close(ended[0], ended[2])
    torch.testing.assert_close(ended[1], ended[2])


def test_the_state_is_as_large_as_stated():
    weight = nn.Parameter(torch.zeros(5, 3))
    optimiser = LearnedOptimiser([weight], rule_of())
    weight.grad = torch.ones(5, 3)
    optimiser.step()
    assert optimiser.state[weight]["hidden"].nbytes == 15 * STATE_BYTES


def test_a_state_goes_on_bit_for_bit():
    def steps(weight: nn.Parameter, optimiser: LearnedOptimiser, numbers: range) -> None:
        for number in numbers:
            weight.grad = torch.sin(torch.arange(6.0) + number)
            optimiser.step()

    whole = nn.Parameter(torch.zeros(6))
    steps(whole, LearnedOptimiser([whole], rule_of(), lr=0.1), range(9))
    first = nn.Parameter(torch.zeros(6))
    optimiser = LearnedOptimiser([first], rule_of(), lr=0.1)
    steps(first, optimiser, range(4))
    kept = copy.deepcopy(optimiser.state_dict())
    second = nn.Parameter(first.detach().clone())
    resumed = LearnedOptimiser([second], rule_of(), lr=0.3)
    resumed.load_state_dict(kept)
    steps(second, resumed, range(4, 9))
    assert torch.equal(second, whole)
    without = nn.Parameter(first.detach().clone())
    steps(without, LearnedOptimiser([without], rule_of(), lr=0.1), range(4, 9))
    assert not torch.equal(without, whole), "the state decides"


def test_nothing_is_differentiated_through_gradients():
    x = torch.tensor([2.0], requires_grad=True)
    move, _ = rule_of()(x * 3.0, torch.zeros(1, 2 * HIDDEN))
    move.sum().backward()
    assert x.grad is None


def test_a_rule_is_read_as_it_was_written(tmp_path: Path):
    save_rule(rule_of(3), tmp_path / "new" / "rule.safetensors", steps="10")
    read = load_rule(tmp_path / "new" / "rule.safetensors")
    assert read.digest() == rule_of(3).digest() != rule_of(4).digest()


def test_files_that_hold_no_rule_are_refused(tmp_path: Path):
    file = tmp_path / "rule.safetensors"
    with pytest.raises(InputError, match="is not a learned optimiser") as caught:
        load_rule(file)
    assert caught.value.where == str(file) and "meta_training" in caught.value.hint
    file.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="is not a learned optimiser"):
        load_rule(file)
    save_rule(rule_of(), file)
    values = load_file(file)
    save_file({name: value for name, value in values.items() if name != "first.bias_hh"}, file)
    with pytest.raises(InputError, match=r"first\.bias_hh"):
        load_rule(file)
    save_file(values | {"first.weight_hh": torch.zeros(9, 3)}, file)
    with pytest.raises(InputError, match="size mismatch"):
        load_rule(file)
    save_file(values | {"log_first.bias": torch.tensor([math.nan])}, file)
    with pytest.raises(InputError, match="not finite"):
        load_rule(file)
    with pytest.raises(InputError, match="is not a learned optimiser"):
        load_rule(tmp_path)
