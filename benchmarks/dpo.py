"""Preference training: tokens of trajectory a second, and peak memory, against TRL's DPOTrainer.

The same pairs of real episodes, model, dtype, pairs a step and loss (sigmoid, plain sums); tokens are
those of chosen and rejected, the prompt in both, however a contestant lays them out. Ours counts
rendering and the reference's log-probs into its time; TRL's excludes tokenising, and includes the
reference in each step, or its precomputation. TRL's defaults put the loss on the observations too and
checkpoint activations; it is also measured without either. Memory is the peak resident set of a
process of its own, one a contestant, that takes two steps: AdamW's moments are there from the second on.

The share of the prefix-sharing bound (`layouts`): time of our training on plain rows over that on trees,
over the ratio of the tokens that pass the model.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import eto
from benchmarks.frame import Outcome, Ratio, Row, alternate, median_ratio, rows
from eto.data.formats import read_pairs, write_pairs
from eto.types import Pair

if TYPE_CHECKING:
    from benchmarks.trl_peers import Trained

BATCH = 4
STEPS = 2
"""That memory is measured over, each of all pairs."""
CHECK_RATE = 5e-6
"""Learning rate of the check; one step at it moves the loss well away from log 2."""
OURS = "eto"
DEFAULTS = "TRL, defaults"
PRECOMPUTED = "TRL, reference precomputed"
OUR_LOSS = "TRL, agent-only masks, reference precomputed, no gradient checkpointing"
PEERS: dict[str, dict[str, bool]] = {
    DEFAULTS: {},
    PRECOMPUTED: {"precomputed": True},
    OUR_LOSS: {"masked": True, "precomputed": True, "checkpointing": False},
}
QUICK = (DEFAULTS, PRECOMPUTED)


def run(quick: bool) -> Outcome:
    from benchmarks.agent import prepared

    agent = prepared()
    return measured(agent.model, chosen_pairs(agent.pairs), quick)


def chosen_pairs(pairs: Callable[[int], list[Pair]]) -> list[Pair]:
    """One step of pairs: the shortest of twelve, about 330 tokens a side."""
    return sorted(pairs(3 * BATCH), key=turns)[:BATCH]


def turns(pair: Pair) -> int:
    return len(pair.chosen.turns) + len(pair.rejected.turns)


def measured(model: Path, pairs: Sequence[Pair], quick: bool) -> Outcome:
    """All parts on `pairs`, a multiple of `BATCH` of them."""
    import torch

    from benchmarks.layouts import ROWS, TREES, layout_speeds, layouts

    repetitions = 1 if quick else 5
    policy = eto.load_learner(model)
    bf16 = policy.dtype == torch.bfloat16
    trees, singles = layouts(policy, pairs)
    plain, shared = (sum(len(e.tree) for e in layout) for layout in (singles, trees))
    sharing, bound, same_layout = layout_speeds(policy, trees, singles, BATCH, repetitions)
    del policy
    peers = QUICK if quick else tuple(PEERS)

    def ours() -> float:
        return plain / train_ours(model, pairs)

    def trl(name: str) -> float:
        trained = train_trl(name, model, pairs, bf16)
        # TRL's text ends each trajectory on a line break more, and takes no sampled ids.
        if abs(trained.tokens - plain) > 0.02 * plain:
            raise AssertionError(f"{name} trains on {trained.tokens} tokens, eto on {plain}")
        return plain / trained.seconds

    speed = alternate({OURS: ours} | {name: partial(trl, name) for name in peers}, repetitions)
    outcome = Outcome(
        title="DPO against TRL",
        setting=f"SmolLM2-135M, {len(pairs)} ScienceWorld pairs, {plain} tokens of trajectory ({shared} in "
        f"trees), {BATCH} pairs a step, {'bf16 compute' if bf16 else 'fp32'}, {torch.get_num_threads()} "
        "threads.",
        rows=rows(speed, "tokens/s") + rows(sharing, "tokens/s, training alone"),
        notes=[
            "TRL's limit of 1,024 tokens a trajectory is lifted.",
            "Gradient checkpointing is on by TRL's default.",
        ],
    )
    targets = {DEFAULTS: 5.0, PRECOMPUTED: 3.5}
    for name in peers:
        value = median_ratio(speed, OURS, name)
        outcome.ratios.append(Ratio(f"tokens/s, eto / {name}", value, targets.get(name)))
    realised = median_ratio(sharing, TREES, ROWS) / bound
    outcome.ratios.append(Ratio(f"share realised of the prefix-sharing bound ({bound:.2f})", realised, 0.9))
    checked = sorted(pairs, key=turns)[: 1 if quick else BATCH]
    outcome.same = f"{same_losses(model, checked, bf16=False)} {same_layout}"
    if quick:
        outcome.notes.append("Quick: fewer contestants, no memory.")
        return outcome
    if bf16:
        outcome.same += " " + same_losses(model, checked, bf16=True)
    add_memory(outcome, model, pairs[:BATCH])
    return outcome


def train_ours(model: Path, pairs: Sequence[Pair], epochs: int = 1) -> float:
    """Seconds of training with the paper's loss, from the weights in `model`."""
    policy = eto.load_learner(model)
    settings = eto.DpoSettings(epochs=epochs, batch_size=BATCH, learning_rate=1e-6)
    begun = time.perf_counter()
    eto.dpo(policy, pairs, settings)
    return time.perf_counter() - begun


def train_trl(name: str, model: Path, pairs: Sequence[Pair], bf16: bool, epochs: int = 1) -> Trained:
    """Training by TRL, from the weights in `model`."""
    from benchmarks.trl_peers import train_dpo

    return train_dpo(model, pairs, bf16=bf16, batch_pairs=BATCH, epochs=epochs, **PEERS[name])


# -- the same computation -------------------------------------------------------------------


def same_losses(model: Path, pairs: Sequence[Pair], *, bf16: bool) -> str:
    """Two steps on `pairs` by TRL with our masks and by us; in fp32 the figures must agree."""
    from benchmarks.trl_peers import train_dpo

    settings = eto.DpoSettings(
        epochs=2,
        batch_size=len(pairs),
        learning_rate=CHECK_RATE,
        schedule="constant",
        warmup_ratio=0.0,
    )
    policy = eto.load_learner(model, dtype="bfloat16" if bf16 else "float32")
    found = [step.figures for step in eto.preference(policy, pairs, settings)]
    trained = train_dpo(
        model,
        pairs,
        bf16=bf16,
        batch_pairs=len(pairs),
        masked=True,
        epochs=2,
        learning_rate=CHECK_RATE,
        lr_scheduler_type="constant",
    )
    text = (
        f"{'bf16' if bf16 else 'fp32'}, pairs: {len(pairs)}, agent-only masks: first loss "
        f"{found[0]['loss']:.6f} (TRL {trained.losses[0]:.6f}), norm of its gradient "
        f"{found[0]['grad_norm']:.5g} ({trained.gradient_norms[0]:.5g}), loss after a step "
        f"{found[1]['loss']:.6f} ({trained.losses[1]:.6f})."
    )
    if not bf16:
        agree = (
            math.isclose(found[0]["loss"], trained.losses[0], abs_tol=1e-4)
            and math.isclose(found[0]["grad_norm"], trained.gradient_norms[0], rel_tol=1e-3)
            and math.isclose(found[1]["loss"], trained.losses[1], abs_tol=1e-3)
        )
        if not agree:
            raise AssertionError(f"TRL with our masks and eto disagree: {text}")
        # At the first step every policy is its own reference: only a loss that moved shows anything.
        if abs(found[1]["loss"] - math.log(2)) < 5e-3:
            raise AssertionError(f"the step is too small to compare anything: {text}")
    return text


# -- memory ---------------------------------------------------------------------------------


def add_memory(outcome: Outcome, model: Path, pairs: Sequence[Pair]) -> None:
    """Rows and the ratio of peak memory, one fresh process a contestant."""
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write_pairs(path, pairs)
        for name in (OURS, *PEERS):
            figures = in_own_process(name, model, path)
            peaks[name] = figures["peak"]
            outcome.rows.append(single(name, "MB at the peak", figures["peak"]))
            outcome.rows.append(single(name, "MB with the libraries loaded", figures["libraries"]))
    outcome.ratios.append(
        Ratio(f"peak memory, eto / {DEFAULTS}", peaks[OURS] / peaks[DEFAULTS], 0.35, at_most=True)
    )
    outcome.notes.append(
        "Weights, gradients and AdamW's two moments in fp32 are 16 bytes a parameter with every contestant, "
        "TRL's reference model four more."
    )


def single(name: str, what: str, figure: float) -> Row:
    return Row(name, what, figure, figure, figure, 1)


def in_own_process(name: str, model: Path, pairs: Path) -> dict[str, float]:
    """MB of a contestant's process, after loading its libraries and at its peak."""
    command = [sys.executable, "-m", "benchmarks.dpo", "--memory", name, "--model", model, "--pairs", pairs]
    home = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: the process for memory failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def memory(name: str, model: Path, path: Path) -> dict[str, float]:
    """What `in_own_process` reads."""
    import torch

    if name != OURS:
        import benchmarks.trl_peers  # noqa: F401
    from eto.models.dtype import compute_dtype
    from eto.training.preference import dpo  # noqa: F401

    pairs = read_pairs(path)
    libraries = peak_resident()
    if name == OURS:
        train_ours(model, pairs, epochs=STEPS)
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        train_trl(name, model, pairs, compute_dtype("auto", device) == torch.bfloat16, epochs=STEPS)
    return {"libraries": libraries, "peak": peak_resident()}


def peak_resident() -> float:
    """Peak resident set of this process in MB.

    Not `ru_maxrss` where the kernel tells better: a child takes its parent's over.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 2**20 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of one contestant, as JSON.")
    parser.add_argument("--memory", required=True, choices=(OURS, *PEERS))
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path)
    given = parser.parse_args()
    print(json.dumps(memory(given.memory, given.model, given.pairs)))


if __name__ == "__main__":
    main()
