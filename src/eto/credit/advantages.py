"""Rewards and advantages of single tokens: generalised advantage estimation."""

from __future__ import annotations

import numpy as np


def penalised_rewards(
    log_probs: np.ndarray, reference: np.ndarray, reward: float, kl_weight: float
) -> np.ndarray:
    """Rewards of an episode's agent tokens: `reward` at the last, and at each the penalty
    -kl_weight (log pi(a|s) - log pi_ref(a|s)) (arXiv 1909.08593, section 2.1).

    log_probs, reference `[tokens]` (nats) -> `[tokens]`, float64.
    """
    rewards = -kl_weight * (log_probs.astype(np.float64) - reference.astype(np.float64))
    rewards[-1] += reward
    return rewards


def gae(
    rewards: np.ndarray, values: np.ndarray, discount: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns of an episode that ends after its last step (GAE, arXiv 1506.02438, eq. 16).

    delta_t = r_t + discount V_{t+1} - V_t, A_t = delta_t + discount decay A_{t+1}, with V = A = 0 after
    the end; the return is A_t + V_t. rewards, values `[steps]` -> two of `[steps]`, float64.
    """
    advantages = np.zeros(len(rewards))
    following, value_after = 0.0, 0.0
    for step in range(len(rewards) - 1, -1, -1):
        delta = rewards[step] + discount * value_after - values[step]
        following = advantages[step] = delta + discount * decay * following
        value_after = values[step]
    return advantages, advantages + values


def normalised(advantages: list[np.ndarray]) -> list[np.ndarray]:
    """Advantages with mean 0 and deviation 1 over all steps of all episodes; all 0 where they are equal."""
    every = np.concatenate(advantages)
    deviation = every.std()
    scale = 1.0 / deviation if deviation > 1e-8 else 0.0
    return [(each - every.mean()) * scale for each in advantages]
