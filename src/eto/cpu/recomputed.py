"""Values that the backward pass computes again from what is kept anyway: norms and gated products.

A layer's norms and the product inside its gated MLP cost a few passes over memory to compute, and are
most of what autograd would keep of it. A value that is computed again carries `Again`; a linear layer
that takes it in (`eto.cpu.weight_gradients`) keeps its sources in its place.

Modules are recognised by what they compute: each is tried on random numbers against the formula.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eto.models.probe import FOREIGN

_MARK = "_eto_again"
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class Again:
    """How a value is computed again, once for all who need it in the backward pass."""

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        self._compute = compute
        self._users = 0
        self._value: Tensor | None = None

    def add_user(self) -> None:
        """One more asks for the value, once."""
        self._users += 1

    @torch.no_grad()
    def value(self, *sources: Tensor) -> Tensor:
        """The value, from its sources; kept until the last user has had it."""
        value = self._compute(*sources) if self._value is None else self._value
        self._users -= 1
        self._value = value if self._users > 0 else None
        return value


@dataclass(frozen=True, slots=True)
class _Mark:
    again: Again
    sources: tuple[Tensor, ...]
    version: int
    """Of the value: another one where it was changed in place."""


def mark(value: Tensor, compute: Callable[..., Tensor], *sources: Tensor) -> Tensor:
    """`value`, which `compute` gives of `sources`, told to be computed again."""
    if torch.is_grad_enabled():
        setattr(value, _MARK, _Mark(Again(compute), sources, value._version))
    return value


def sources_of(value: Tensor) -> tuple[Again, tuple[Tensor, ...]] | None:
    """How `value` is computed again, and of what; None for one that has to be kept."""
    found = getattr(value, _MARK, None)
    return None if found is None or found.version != value._version else (found.again, found.sources)


def recompute_cheaply(model: Any) -> None:
    """Let the norms and gated MLPs of `model` that are recognised be computed again in the backward pass.

    Values stay as they are, bit by bit; gradients within rounding.
    """
    shifts: dict[tuple[Any, ...], float | None] = {}
    for module in model.modules():
        if "forward" in vars(module):
            continue  # somebody else's
        if is_gated_mlp(module):
            module.forward = partial(_gated_mlp, module)
        elif (epsilon := _epsilon(module)) is not None:
            key = type(module), epsilon, module.weight.shape
            if key not in shifts:
                shifts[key] = norm_shift(module)
            if (shift := shifts[key]) is not None:
                module.forward = partial(_norm, module, epsilon, shift)


# -- norms --------------------------------------------------------------------------------


def norm_shift(module: nn.Module) -> float | None:
    """What a root-mean-square norm adds to its weight, 0 or 1; None for a module of another kind."""
    epsilon = _epsilon(module)
    if epsilon is None:
        return None
    generator = torch.Generator().manual_seed(0)
    size = int(module.get_parameter("weight").shape[0])
    weight = torch.randn(size, generator=generator)
    inputs = torch.randn(3, size, generator=generator) * torch.tensor([[1e-3], [1.0], [30.0]])
    twin = copy.copy(module)
    twin.__dict__["_parameters"] = {"weight": nn.Parameter(weight, requires_grad=False)}
    try:
        found = twin(inputs)
    except FOREIGN:
        return None
    normed = inputs * torch.rsqrt(inputs.square().mean(-1, keepdim=True) + epsilon)
    for shift in (0.0, 1.0):
        wanted = normed * (weight + shift)
        if (
            isinstance(found, Tensor)
            and found.shape == wanted.shape
            and torch.allclose(found, wanted, 1e-5, 1e-5)
        ):
            return shift
    return None


def _epsilon(module: nn.Module) -> float | None:
    """Of what may be a norm: a module of one weight along the last dimension, and nothing else."""
    own = dict(module.named_parameters())
    parts = [*module.modules()][1:]
    if set(own) != {"weight"} or own["weight"].ndim != 1 or parts or any(True for _ in module.buffers()):
        return None
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return epsilon if isinstance(epsilon, float) else None


def _norm(module: Any, epsilon: float, shift: float, inputs: Tensor) -> Tensor:
    own = partial(type(module).forward, module)
    return mark(_Norm.apply(inputs, module.weight, own, epsilon, shift), own, inputs)


class _Norm(torch.autograd.Function):
    """x r (w + shift) with r = 1 / sqrt(mean(x^2) + epsilon). Keeps x alone.

    With h = x r and g the gradient of the result times (w + shift): dx = r (g - h mean(g h)), and dw is
    the sum of the gradient times h.
    """

    @staticmethod
    def forward(
        context: Any, inputs: Tensor, weight: Tensor, own: Callable[..., Tensor], epsilon: float, shift: float
    ) -> Tensor:
        context.save_for_backward(inputs, weight)
        context.rest = epsilon, shift
        return own(inputs)

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = context.saved_tensors
        epsilon, shift = context.rest
        wide, given = inputs.float(), given.float()
        root = wide.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        normed = wide * root
        back = to_weight = None
        if context.needs_input_grad[1]:
            to_weight = (given * normed).flatten(0, -2).sum(0).to(weight.dtype)
        if context.needs_input_grad[0]:
            scale = weight.float() + shift if shift else weight.float()
            inner = given * scale
            mean = (inner * normed).mean(-1, keepdim=True)
            back = inner.sub_(normed.mul_(mean)).mul_(root).to(inputs.dtype)
        return back, to_weight, None, None, None


# -- gated MLPs ---------------------------------------------------------------------------


def is_gated_mlp(module: nn.Module) -> bool:
    """Whether a module computes down(act(gate(x)) * up(x)) of its four parts, and nothing else. Not with an
    act that gives back its input, such as the identity: the product is written over what it gives."""
    parts = dict(module.named_children())
    if set(parts) != _MLP or any(True for _ in parts["act_fn"].parameters()) or module._parameters:
        return False
    generator = torch.Generator().manual_seed(0)

    def linear(rows: int, columns: int) -> nn.Linear:
        layer = nn.Linear(columns, rows, bias=False, device="meta")
        layer.weight = nn.Parameter(torch.randn(rows, columns, generator=generator), requires_grad=False)
        return layer

    gate, up, down = linear(6, 4), linear(6, 4), linear(4, 6)
    twin = copy.copy(module)
    tried: dict[str, Any] = {"gate_proj": gate, "up_proj": up, "down_proj": down, "act_fn": parts["act_fn"]}
    twin.__dict__["_modules"] = tried
    inputs = torch.randn(1, 5, 4, generator=generator)
    try:
        found = twin(inputs)
    except FOREIGN:
        return False
    gated = gate(inputs)
    acted = parts["act_fn"](gated)
    if acted.untyped_storage().data_ptr() == gated.untyped_storage().data_ptr():
        return False
    wanted = down(acted * up(inputs))
    return (
        isinstance(found, Tensor)
        and found.shape == wanted.shape
        and torch.allclose(found, wanted, 1e-5, 1e-5)
    )


def _gated_mlp(module: Any, inputs: Tensor) -> Tensor:
    gate, up = module.gate_proj(inputs), module.up_proj(inputs)
    act = module.act_fn
    return module.down_proj(mark(_Product.apply(gate, up, act), partial(_product, act), gate, up))


def _product(act: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor) -> Tensor:
    return act(gate) * up


class _Product(torch.autograd.Function):
    """act(gate) * up. Keeps both, and neither act(gate) nor the product."""

    @staticmethod
    def forward(context: Any, gate: Tensor, up: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        context.save_for_backward(gate, up)
        context.act = act
        return act(gate).mul_(up)

    @staticmethod
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = context.saved_tensors
        with torch.enable_grad():
            leaf = gate.detach().requires_grad_()
            acted = context.act(leaf)
        [to_gate] = torch.autograd.grad(acted, leaf, given * up)
        return to_gate, given * acted.detach(), None
