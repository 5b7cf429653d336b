"""A learned optimiser: Optim4RL's update (arXiv 2302.01470), shared by all weights and applied to each alone.

A weight's gradient g moves it by

    m = sign(g) · exp(a₁)       a₁ = linear of h₁,  h₁ = GRU₁(g, h₁)
    v = exp(a₂)                 a₂ = linear of h₂,  h₂ = GRU₂(g², h₂)
    Δ = −lr · m / √(v + 1e-8)

with hidden states of 8 numbers that begin at 0. `eto.training.meta_training` learns the 546 numbers of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eto.data.files import disk_errors
from eto.errors import InputError

HIDDEN = 8
"""Of each recurrence. Paper: 8."""
STATE_BYTES = 2 * HIDDEN * 4
"""Of the hidden states of one weight; AdamW's two averages take 8."""
SHIPPED = Path(__file__).with_name("optim4rl.safetensors")
_EPS = 1e-8
_CHUNK = 1 << 16
"""Weights that are updated at a time, so that gates and products in between take some 20 MB."""


class UpdateRule(nn.Module):
    """The formula above, as a function that can be learned."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.GRUCell(1, HIDDEN)
        self.second = nn.GRUCell(1, HIDDEN)
        self.log_first = nn.Linear(HIDDEN, 1)
        self.log_second = nn.Linear(HIDDEN, 1)

    def forward(self, gradients: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Moves at learning rate 1, `[n]`, and the new hidden states, `[n, 16]`.

        gradients: `[n]`, through which nothing is differentiated. hidden: `[n, 16]`, of both recurrences.
        """
        inputs = gradients.detach()[:, None]
        h1 = self.first(inputs, hidden[:, :HIDDEN])
        h2 = self.second(inputs.square(), hidden[:, HIDDEN:])
        m = inputs.sign() * self.log_first(h1).exp()
        v = self.log_second(h2).exp()
        return (-m / (v + _EPS).sqrt())[:, 0], torch.cat([h1, h2], dim=-1)

    def digest(self) -> str:
        """Of its numbers."""
        digest = hashlib.sha256()
        for value in self.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


class LearnedOptimiser(torch.optim.Optimizer):
    """Moves weights by an `UpdateRule`; keeps `STATE_BYTES` a weight."""

    def __init__(self, weights: Iterable[Tensor], rule: UpdateRule, lr: float = 1e-3) -> None:
        super().__init__(weights, {"lr": lr})
        self.rule = rule.requires_grad_(False)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group["lr"])
        return loss

    def _move(self, weight: Tensor, lr: float) -> None:
        state = self.state[weight]
        if "hidden" not in state:
            state["hidden"] = weight.new_zeros((weight.numel(), 2 * HIDDEN), dtype=torch.float32)
        gradients, moves = weight.grad.float().flatten(), []  # type: ignore[union-attr]
        for gradient, hidden in zip(gradients.split(_CHUNK), state["hidden"].split(_CHUNK), strict=True):
            move, after = self.rule(gradient, hidden)
            hidden.copy_(after)
            moves.append(move)
        weight.add_(torch.cat(moves).view_as(weight).to(weight.dtype), alpha=lr)


def save_rule(rule: UpdateRule, path: Path, **facts: str) -> None:
    """Write the numbers of `rule`, and `facts` beside them. Raises `MissingRequirement` on a full disk,
    `InputError` where the file cannot be written."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in rule.state_dict().items()}, path, facts)


def load_rule(path: str | Path | None = None) -> UpdateRule:
    """The rule in the file `path`; by default the one that comes with the package.

    Raises `InputError` for a file that is missing, or does not hold such a rule.
    """
    file = SHIPPED if path is None else Path(path)
    rule = UpdateRule()
    try:
        values = load_file(file)
        rule.load_state_dict(values)
    except (OSError, SafetensorError, RuntimeError) as error:
        fault = " ".join(str(error).split())[:200]
        raise _no_rule(file, f"is not a learned optimiser: {fault}") from error
    if not all(bool(value.isfinite().all()) for value in values.values()):
        raise _no_rule(file, "holds numbers that are not finite")
    return rule


def _no_rule(file: Path, problem: str) -> InputError:
    hint = "python -m eto.training.meta_training writes one; null takes the one that comes with the package"
    return InputError(problem, where=str(file), hint=hint)
