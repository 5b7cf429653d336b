"""Optim4RL beside AdamW and sign descent, on the games it was learned on and on others.

    python -m benchmarks.learned_optimiser [--weights FILE] [--seeds 20]

Learning rates are chosen for every optimiser alike, on seeds of their own. Tables go to standard output, as
Markdown; one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import eto  # noqa: F401  (OpenMP waiting, before torch)
from benchmarks.page import table
from eto.environments.bandit.games import bernoulli, contextual, gaussian
from eto.environments.bandit.ratings import made_up
from eto.errors import EtoError
from eto.evaluation.statistics import mean_interval
from eto.training.learned_optimiser import LearnedOptimiser, UpdateRule, load_rule
from eto.training.meta_games import Bandits, Game, Rooms, gradients, new_weights, sampled

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
UPDATES = 200
TUNING = 1000
"""Seed on which learning rates are chosen; those that count are others."""
Make = Callable[[Tensor, float], torch.optim.Optimizer]


def optimisers(rule: UpdateRule) -> dict[str, Make]:
    """By name."""
    signs = UpdateRule()
    with torch.no_grad():
        for value in signs.parameters():
            value.zero_()
    return {
        "Optim4RL": lambda weights, rate: LearnedOptimiser([weights], rule, rate),
        "sign descent (the rule at zeros)": lambda weights, rate: LearnedOptimiser([weights], signs, rate),
        "AdamW": lambda weights, rate: torch.optim.AdamW([weights], rate, weight_decay=0.0),
    }


def games(agents: int, seed: int) -> dict[str, Game]:
    """Those it was learned on, other instances, and those that are held out."""
    draw = np.random.default_rng([seed, 1])
    table_of, features = made_up(10, 5, seed).of_split("test")
    return {
        "Bernoulli bandit, 5 arms (learned on)": Bandits(lambda: bernoulli(5, "easy", 512, draw), agents),
        "Gaussian bandit, 5 arms (learned on)": Bandits(lambda: gaussian(5, "easy", 512, draw), agents),
        "rooms of 4 by 4 (learned on)": Rooms(agents, seed),
        "bandit with users, 10 films (held out)": Bandits(
            lambda: contextual(table_of, features, 1024, draw), agents
        ),
        "rooms of 6 by 6 (held out)": Rooms(agents, seed, side=6, steps=20),
    }


def learned(game: Game, make: Make, rate: float, seed: int) -> np.ndarray:
    """`[agents, updates]`: rewards in the course of learning."""
    random = torch.Generator().manual_seed(seed)
    weights = new_weights(game, game.agents, random).requires_grad_()
    optimiser, rewards = make(weights, rate), []
    for _ in range(UPDATES):
        played = game.play(sampled(game, weights, random))
        weights.grad = gradients(game, weights, played)
        optimiser.step()
        rewards.append(played.reward)
    return torch.stack(rewards, dim=1).numpy()


def compared(rule: UpdateRule, agents: int) -> Iterator[tuple[str, ...]]:
    """Rows: mean reward in the course of learning, and of its last tenth, with 95% intervals over agents."""
    for name in games(1, 0):
        found = {}
        for optimiser, make in optimisers(rule).items():
            tried = {r: learned(games(8, TUNING)[name], make, r, TUNING).mean() for r in RATES}
            rate = max(tried, key=lambda r: tried[r])
            found[optimiser] = rate, learned(games(agents, 0)[name], make, rate, 0)
        _, base = found["AdamW"]
        for optimiser, (rate, rewards) in found.items():
            whole, last = rewards.mean(axis=1), rewards[:, -UPDATES // 10 :].mean(axis=1)
            less = interval(whole - base.mean(axis=1)) if optimiser != "AdamW" else ""
            yield name, optimiser, f"{rate:g}", interval(whole), interval(last), less


def interval(values: np.ndarray) -> str:
    of = mean_interval([float(value) for value in values])
    return f"{of.mean:.3f} [{of.low:.3f}, {of.high:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learned_optimiser",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: the rule of the package")
    parser.add_argument("--seeds", type=int, default=20, help="agents of each game; default: 20")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        rule = load_rule(given.weights)
    except EtoError as error:
        sys.exit(f"error: {error}")
    head = ("game", "optimiser", "rate", "reward while learning", "reward at the end", "minus AdamW")
    print(table(head, list(compared(rule, given.seeds))))


if __name__ == "__main__":
    main()
