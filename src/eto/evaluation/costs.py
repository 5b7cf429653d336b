"""What a run cost: environment steps, generated and trained tokens, wall time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eto.data.store import TrajectoryStore
from eto.evaluation.results import read_stages


@dataclass(frozen=True, slots=True)
class Costs:
    """Of the training of one run; dev and test episodes, and what other runs gave it, are left out or in
    as each field says."""

    environment_steps: int
    """Actions that simulators answered in exploring and in episodes played on from given turns."""
    generated_tokens: int
    """Tokens that the agent sampled there, of actions that it did not take too; those of given turns, which
    have no log-probs, are not its."""
    trained_tokens: int
    """Tokens that passed the model in optimiser steps, each trajectory's as one row."""
    seconds: float
    """Wall time of all stages but the test, those taken from another run included."""


def costs_of(directory: Path) -> Costs:
    """The costs of a finished run. Raises `InputError` where there is none."""
    steps = tokens = 0
    with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
        for phase in store.phases():
            if phase.purpose in ("expert", "evaluate"):
                continue
            for episode in store.get(phase):
                steps += len(episode.turns)
                tokens += sum(len(turn.log_probs or ()) + turn.discarded_tokens for turn in episode.turns)
    seconds = sum(stage["seconds"] for stage in read_stages(directory) if stage["stage"] != "test")
    return Costs(steps, tokens, sum(training_tokens(directory).values()), seconds)


def training_tokens(directory: Path) -> dict[str, int]:
    """Stage -> tokens that passed the model in its optimiser steps, in the order of the stages."""
    noted = {stage["stage"]: stage["metrics"].get("tokens", 0) for stage in read_stages(directory)}
    return {stage: tokens for stage, tokens in noted.items() if tokens}
