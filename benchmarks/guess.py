"""A Gymnasium environment that speaks text: guess a number. `benchmarks.soak` plays it."""

from __future__ import annotations

from typing import Any

import gymnasium


class Guess(gymnasium.Env):
    """Guess a number from 0 to 99 in eight tries; told whether it is higher."""

    observation_space = gymnasium.spaces.Text(100)
    action_space = gymnasium.spaces.Text(10_000)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict]:
        super().reset(seed=seed)
        self._number, self._tries = int(self.np_random.integers(100)), 0
        return "Guess a number from 0 to 99.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        self._tries += 1
        guess = int(action) if action.strip().isdecimal() else -1
        right = guess == self._number
        told = "Right." if right else f"It is {'higher' if guess < self._number else 'lower'}."
        return told, float(right), right, self._tries == 8 and not right, {}


gymnasium.register("Guess-v0", Guess)
