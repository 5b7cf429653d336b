"""Bandits and a small game with tiny policies: what a learned optimiser is learned on.

Many agents play at a time, each its own instance; none sees another's. Their weights are one tensor `[agents,
weights]`, so that a learned optimiser moves all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from eto.environments.bandit.games import Bandit

UNITS = 16
"""Of a policy's one hidden layer."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What `n` agents did in `s` steps each."""

    inputs: Tensor
    """`[n, s, inputs]`."""
    actions: Tensor
    """`[n, s]`."""
    returns: Tensor
    """`[n, s]`, discounted reward from the step on."""
    valid: Tensor
    """`[n, s]`, 1 for a step before the episode's end, else 0."""
    reward: Tensor
    """`[n]`, by which agents are compared, at most 1: discounted reward of an episode, or 1 less a
    pull's regret as a share of the largest."""


Act = Callable[[Tensor], Tensor]
"""Actions `[n, s]` for inputs `[n, s, inputs]`."""


class Game(Protocol):
    """Instances of one game, one an agent."""

    inputs: int
    actions: int
    agents: int

    def renew(self, agent: int) -> None:
        """Give an agent another instance."""

    def play(self, act: Act) -> Rollout:
        """A fresh rollout of all agents."""


class Bandits:
    """The next `pulls` steps of a bandit each. Inputs: the user's features, or a constant 1."""

    def __init__(self, draw: Callable[[], Bandit], agents: int, pulls: int = 16) -> None:
        self._draw, self._pulls, self.agents = draw, pulls, agents
        self._bandits = [draw() for _ in range(agents)]
        self._steps = [0] * agents
        first = self._bandits[0]
        self.inputs, self.actions = first.dimensions or 1, first.arms

    def renew(self, agent: int) -> None:
        self._bandits[agent], self._steps[agent] = self._draw(), 0

    def play(self, act: Act) -> Rollout:
        inputs, paid, worth = [], [], []
        for agent, bandit in enumerate(self._bandits):
            steps = (self._steps[agent] + np.arange(self._pulls)) % bandit.horizon
            self._steps[agent] += self._pulls
            features = np.ones((self._pulls, 1)) if bandit.features is None else bandit.features[steps]
            inputs.append(features)
            paid.append(bandit.paid[steps])
            worth.append(1.0 - bandit.gaps[steps] / max(bandit.gaps.max(), 1e-12))
        seen = _tensor(inputs)
        actions = act(seen)
        returns = _tensor(paid).gather(-1, actions[..., None])[..., 0]
        reward = _tensor(worth).gather(-1, actions[..., None]).mean(dim=(1, 2))
        return Rollout(seen, actions, returns, torch.ones_like(returns), reward)


class Rooms:
    """Find the goal, a cell of a square that only the reward tells. Inputs: the own cell, one-hot.

    Four moves; 1 for reaching the goal, which ends the episode.
    """

    actions = 4

    def __init__(
        self,
        agents: int,
        seed: int,
        *,
        side: int = 4,
        episodes: int = 8,
        steps: int = 12,
        discount: float = 0.9,
    ) -> None:
        self.agents, self.inputs = agents, side * side
        self._side, self._episodes, self._steps, self._discount = side, episodes, steps, discount
        self._random = torch.Generator().manual_seed(seed)
        self._goals = torch.zeros(agents, dtype=torch.long)
        for agent in range(agents):
            self.renew(agent)

    def renew(self, agent: int) -> None:
        self._goals[agent] = torch.randint(self.inputs, (), generator=self._random)

    def play(self, act: Act) -> Rollout:
        shape = (self.agents, self._episodes)
        goals = self._goals[:, None].expand(shape)
        # Starts differ from the goal: an episode has at least one step.
        away = torch.randint(1, self.inputs, shape, generator=self._random)
        cells, alive = (goals + away) % self.inputs, torch.ones(shape)
        seen: list[Tensor] = []
        taken: list[Tensor] = []
        rewards: list[Tensor] = []
        valid: list[Tensor] = []
        for _ in range(self._steps):
            inputs = torch.nn.functional.one_hot(cells, self.inputs).float()
            actions = act(inputs)
            cells = self._moved(cells, actions)
            reached = (cells == goals).float() * alive
            for kept, value in ((seen, inputs), (taken, actions), (rewards, reached), (valid, alive)):
                kept.append(value)
            alive = alive - reached
        returns = [rewards[-1]]
        for reward in reversed(rewards[:-1]):
            returns.insert(0, reward + self._discount * returns[0])
        inputs, actions, ahead, alive = (torch.cat(parts, dim=1) for parts in (seen, taken, returns, valid))
        return Rollout(inputs, actions, ahead, alive, returns[0].mean(dim=1))

    def _moved(self, cells: Tensor, actions: Tensor) -> Tensor:
        """After moves up, down, left and right; a wall holds."""
        last = self._side - 1
        rows, columns = cells // self._side, cells % self._side
        rows = (rows - (actions == 0).long() + (actions == 1).long()).clamp(0, last)
        columns = (columns - (actions == 2).long() + (actions == 3).long()).clamp(0, last)
        return rows * self._side + columns


def new_weights(game: Game, agents: int, random: torch.Generator) -> Tensor:
    """`[agents, weights]` of fresh policies: a tanh layer, then logits and a value, near uniform at first."""
    parts = []
    for scale, shape in zip((1.0, 0.0, 0.1, 0.0), _shapes(game), strict=True):
        spread = scale / math.sqrt(shape[0]) if len(shape) == 2 else 0.0
        parts.append(spread * torch.randn(agents, math.prod(shape), generator=random))
    return torch.cat(parts, dim=1)


def policy(game: Game, weights: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs of actions `[n, s, actions]` and values `[n, s]` under `weights` `[n, weights]`."""
    shapes = _shapes(game)
    parts = weights.split([math.prod(shape) for shape in shapes], dim=1)
    w1, b1, w2, b2 = (part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
    out = torch.tanh(inputs @ w1 + b1[:, None]) @ w2 + b2[:, None]
    return out[..., :-1].log_softmax(dim=-1), out[..., -1]


def sampled(game: Game, weights: Tensor, random: torch.Generator) -> Act:
    """Acting by the policies, without gradients."""

    @torch.no_grad()
    def act(inputs: Tensor) -> Tensor:
        chances = policy(game, weights, inputs)[0].exp()
        drawn = torch.multinomial(chances.flatten(0, 1), 1, generator=random)
        return drawn.view(inputs.shape[:2])

    return act


def a2c_loss(game: Game, weights: Tensor, played: Rollout, entropy: float = 0.01) -> Tensor:
    """`[n]`: −A log π + ½ (V − R)² − entropy · H, means over an agent's steps; A = R − V."""
    log_probs, values = policy(game, weights, played.inputs)
    chosen = log_probs.gather(-1, played.actions[..., None])[..., 0]
    advantage = (played.returns - values).detach()
    spread = -(log_probs.exp() * log_probs).sum(dim=-1)
    losses = -advantage * chosen + 0.5 * (values - played.returns).square() - entropy * spread
    return (losses * played.valid).sum(dim=1) / played.valid.sum(dim=1)


def gradients(game: Game, weights: Tensor, played: Rollout, max_norm: float = 1.0) -> Tensor:
    """`[n, weights]` of `a2c_loss`, each agent's scaled down to the norm `max_norm`."""
    given = weights.detach().requires_grad_()
    [found] = torch.autograd.grad(a2c_loss(game, given, played).sum(), given)
    norms = found.norm(dim=1, keepdim=True)
    return found * (max_norm / (norms + 1e-6)).clamp(max=1.0)


def _shapes(game: Game) -> list[tuple[int, ...]]:
    return [(game.inputs, UNITS), (UNITS,), (UNITS, game.actions + 1), (game.actions + 1,)]


def _tensor(values: Sequence[np.ndarray]) -> Tensor:
    return torch.tensor(np.stack(values), dtype=torch.float32)
