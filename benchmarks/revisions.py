"""This revision against another one: exploring, preference training and cloning, in one run.

    python -m benchmarks.revisions ../eto-before --repetitions 3

The other revision lies in a checkout of its own and uses this interpreter. Each repetition is a fresh
process that calls the revision's own benchmark modules on the same cached agent; the two take turns.
A ratio is this revision's speed over the other's: below 1, this one is slower.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.frame import alternate, median_ratio

HERE = Path(__file__).resolve().parents[1]
OURS, OTHER = "this revision", "the other"
WORST = 0.95
"""Ratio below which a revision counts as slower."""

PROGRAMS = {
    "rollouts": """
from benchmarks import rollouts
tasks = rollouts.spread(agent.tasks, 24)
settings = rollouts.RolloutSettings()
with rollouts.EnvironmentPool(agent.suite, 2) as pool:
    rollouts.start_simulators(pool, tasks, settings.slots)
    episodes, seconds = rollouts.explore("float32", agent, tasks, settings, pool)
    assert not any(episode.failed for episode in episodes)
    print(60 * len(episodes) / seconds)
""",
    "dpo": """
from benchmarks import dpo
pairs = dpo.chosen_pairs(agent.pairs)
print(60 * len(pairs) / dpo.train_ours(agent.model, pairs))
""",
    "sft": """
from benchmarks import sft
trajectories = sft.spread(agent.experts, 16)
seconds, _ = sft.train_ours(agent.model, trajectories)
print(60 * len(trajectories) / seconds)
""",
}
"""What one repetition runs; prints episodes, pairs or trajectories a minute."""

_PROLOGUE = """
import eto
from benchmarks.agent import prepared
agent = prepared()
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.revisions", description=__doc__)
    parser.add_argument("other", type=Path, help="checkout of the other revision")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    if unknown := set(given.names) - set(PROGRAMS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(PROGRAMS)}")
    # The older revision makes the agent and its episodes, if they are not cached: the newer one reads them.
    run(given.other, _PROLOGUE)
    slower = []
    for name in given.names or PROGRAMS:
        print(f"{name} ...", flush=True)
        contestants = {OURS: partial(measured, HERE, name), OTHER: partial(measured, given.other, name)}
        speeds = alternate(contestants, given.repetitions)
        ratio = median_ratio(speeds, OURS, OTHER)
        print(f"  {name}: {OURS} / {OTHER} {ratio:.3f}", flush=True)
        if ratio < WORST:
            slower.append(name)
    sys.exit(f"slower than {WORST:g} of the other revision: {', '.join(slower)}" if slower else 0)


def measured(checkout: Path, name: str) -> float:
    """The figure of one repetition by the code in `checkout`. Raises RuntimeError where it fails."""
    return float(run(checkout, _PROLOGUE + PROGRAMS[name]).splitlines()[-1])


def run(checkout: Path, program: str) -> str:
    """What `program` prints with the code in `checkout`. Raises RuntimeError where it fails."""
    checkout = checkout.resolve()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(checkout)])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"failed in {checkout}\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
