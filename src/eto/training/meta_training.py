"""Learn an optimiser on bandits and a small game: Optim4RL's meta-training (arXiv 2302.01470).

    python -m eto.training.meta_training --out optim4rl.safetensors

Each iteration every agent is updated four times by the rule, each time on a fresh rollout; its loss on one
more is the rule's, differentiated through the four updates. Agents begin anew at evenly spaced times
(pipeline training), so that an iteration sees early and late learning alike.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eto.environments.bandit.games import bernoulli, gaussian
from eto.errors import EtoError, InputError
from eto.settings.limits import Count, Positive, Seed, check_values
from eto.training.learned_optimiser import HIDDEN, UpdateRule, save_rule
from eto.training.meta_games import Bandits, Game, Rooms, a2c_loss, gradients, new_weights, sampled

UPDATES = 4
"""Of an agent in an iteration. Paper: 4."""
MAX_META_NORM = 0.5
"""The rule's gradient is scaled down to it. Paper: 0.5, or values clipped to 1."""
HORIZON = 512
"""Steps of a bandit, after which it pays the same again."""


class Agents:
    """Those of one game: their weights, and the rule's hidden states for each."""

    def __init__(self, game: Game, lifetime: int, seed: int) -> None:
        """lifetime: iterations after which an agent begins anew."""
        self.game, self.lifetime = game, lifetime
        self._random = torch.Generator().manual_seed(seed)
        self.weights = new_weights(game, game.agents, self._random)
        self.hidden = torch.zeros(*self.weights.shape, 2 * HIDDEN)

    def renew(self, iteration: int) -> list[int]:
        """Begin anew those whose turn it is; returns them. Turns are spaced evenly over a lifetime."""
        turns = [number * self.lifetime // self.game.agents for number in range(self.game.agents)]
        due = [agent for agent, turn in enumerate(turns) if iteration % self.lifetime == turn]
        for agent in due:
            self.game.renew(agent)
            self.weights[agent] = new_weights(self.game, 1, self._random)[0]
            self.hidden[agent] = 0.0
        return due

    def unroll(self, rule: UpdateRule, rate: float) -> tuple[Tensor, float]:
        """`UPDATES` steps; the mean loss after them, to be differentiated, and the mean reward there."""
        weights, hidden = self.weights, self.hidden
        for _ in range(UPDATES):
            played = self.game.play(sampled(self.game, weights, self._random))
            found = gradients(self.game, weights, played)
            moves, flat = rule(found.flatten(), hidden.flatten(0, 1))
            weights, hidden = weights + rate * moves.view_as(weights), flat.view_as(hidden)
            _check_finite(weights)
        played = self.game.play(sampled(self.game, weights, self._random))
        loss = a2c_loss(self.game, weights, played).mean()
        self.weights, self.hidden = weights.detach(), hidden.detach()
        return loss, float(played.reward.mean())


@dataclass(frozen=True, slots=True)
class Iteration:
    """One that was done."""

    number: int
    """From 1."""
    loss: float
    """Mean over the games."""
    rewards: tuple[float, ...]
    """Of each game's agents after their updates."""


def training_games(agents: int, seed: int) -> list[Game]:
    """Bernoulli and Gaussian bandits of five arms, and the game of rooms."""
    draw = np.random.default_rng(seed)
    return [
        Bandits(lambda: bernoulli(5, "easy", HORIZON, draw), agents),
        Bandits(lambda: gaussian(5, "easy", HORIZON, draw), agents),
        Rooms(agents, seed),
    ]


def meta_train(
    rule: UpdateRule,
    games: Sequence[Game],
    iterations: Count,
    *,
    rate: Positive = 3e-3,
    meta_rate: Positive = 1e-3,
    lifetime: Count = 100,
    seed: Seed = 0,
) -> Iterator[Iteration]:
    """Improve `rule` in place, one iteration at a time.

    rate: of the agents. meta_rate: Adam's, for the rule. Raises `InputError` for an argument out of range,
    and where agents have diverged.
    """
    check_values(
        meta_train,
        {"iterations": iterations, "rate": rate, "meta_rate": meta_rate, "lifetime": lifetime, "seed": seed},
    )
    groups = [Agents(game, lifetime, seed + number) for number, game in enumerate(games)]
    adam = torch.optim.Adam(rule.parameters(), meta_rate)
    for number in range(iterations):
        for group in groups:
            group.renew(number)
        found = [group.unroll(rule, rate) for group in groups]
        loss = torch.stack([loss for loss, _ in found]).mean()
        _check_finite(loss)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rule.parameters(), MAX_META_NORM)
        adam.step()
        yield Iteration(number + 1, float(loss.detach()), tuple(reward for _, reward in found))


def _check_finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        hint = "give a smaller rate, or a smaller meta_rate"
        raise InputError("agents have diverged: not all numbers are finite", where="meta_train", hint=hint)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eto.training.meta_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the rule is written")
    parser.add_argument("--iterations", type=int, default=2000, help="default: 2000")
    parser.add_argument("--agents", type=int, default=8, help="of each game at a time; default: 8")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate of agents; default: 3e-3")
    parser.add_argument("--meta-rate", type=float, default=1e-3, help="Adam's for the rule; default: 1e-3")
    parser.add_argument("--lifetime", type=int, default=100, help="iterations of an agent; default: 100")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.agents < 1:
        parser.error("--agents: at least 1")
    torch.manual_seed(given.seed)
    rule = UpdateRule()
    try:
        for done in meta_train(
            rule,
            training_games(given.agents, given.seed),
            given.iterations,
            rate=given.rate,
            meta_rate=given.meta_rate,
            lifetime=given.lifetime,
            seed=given.seed,
        ):
            if done.number % 100 == 0 or done.number == given.iterations:
                rewards = ", ".join(f"{reward:.3f}" for reward in done.rewards)
                sys.stdout.write(f"iteration {done.number}: loss {done.loss:.4f}, rewards {rewards}\n")
                sys.stdout.flush()
        facts = {name: str(value) for name, value in vars(given).items() if name != "out"}
        save_rule(rule, given.out, **facts)
    except EtoError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
