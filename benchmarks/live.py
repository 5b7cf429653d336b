"""What a step of preference training holds at its peak: `python -m benchmarks.live [--dtype float32]`.

Prints the tensors that autograd keeps of the forward passes of one lane, by shape, and the resident set of
the process at the moments of two steps: with the libraries, with the model, after the reference was
scored, each step's peak, and the end. What is free but kept by the C library counts as resident. The pairs
are those of `benchmarks.dpo`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

import eto
from benchmarks.agent import prepared
from benchmarks.dpo import BATCH, chosen_pairs, peak_resident
from eto.models.private_interfaces import storage_id
from eto.runtime import release_memory
from eto.training.backends import backend_for
from eto.training.batches import forward_passes
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.pair_examples import contrasted

MB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="auto", help="of the computation: auto, float32 or bfloat16")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--tensors", action="store_true", help="the tensors alone, without training")
    given = parser.parse_args()
    agent = prepared()
    pairs = chosen_pairs(agent.pairs)
    print(f"{peak_resident():6.0f} MB with the libraries loaded")
    policy = eto.load_learner(agent.model, dtype=given.dtype)
    print(f"{peak_resident():6.0f} MB with the model")
    settings = eto.DpoSettings(epochs=given.steps, batch_size=BATCH, learning_rate=1e-6)
    if given.tensors:
        kept, _ = contrasted(policy, pairs, eto.ContrastSettings(), settings)
        print_tensors(policy, [example for _, example in kept])
        return
    fit = eto.preference(policy, pairs, settings)
    print(f"{peak_resident():6.0f} MB once the reference was scored")
    memory = fit.memory
    print(
        f"planned: weights {memory.weights / MB:.0f}, copy {memory.copy / MB:.0f}, gradients "
        f"{memory.gradients / MB:.0f}, optimiser {memory.optimiser_state / MB:.0f}, activations "
        f"{memory.activations / MB:.0f} MB, recomputed: {fit.recomputes}"
    )
    for step in fit:
        print(
            f"{peak_resident():6.0f} MB at the peak up to step {step.step}, {resident():.0f} after it; "
            f"loss {step.figures['loss']:.7f}, norm {step.figures['grad_norm']:.6f}",
            flush=True,
        )
    release_memory()
    print(f"{resident():6.0f} MB after training, once what is free was given back")


def print_tensors(policy: Learner, examples: Sequence[Example]) -> None:
    """What autograd keeps while the trees that pass at the same time in all lanes do."""
    backend = backend_for(policy.model)
    trees = max(forward_passes([[e.tree for e in examples]], 1024, backend.concurrent), key=_tokens)
    found: dict[int, Tensor] = {}
    own = {storage_id(weight) for weight in policy.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if storage_id(tensor) not in own:
            found.setdefault(storage_id(tensor), tensor)
        return tensor

    with backend as running:
        running.begin(policy.dtype)
        scorer = running._scorers[0].train()  # type: ignore[attr-defined]
        own |= {storage_id(weight) for weight in scorer.parameters()}
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            outcome = scorer(trees)
        rows: Counter[tuple[str, tuple[int, ...]]] = Counter()
        sizes: Counter[tuple[str, tuple[int, ...]]] = Counter()
        for tensor in found.values():
            key = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
            rows[key] += 1
            sizes[key] += tensor.untyped_storage().nbytes()
        del outcome
    tokens = sum(map(len, trees))
    total = sum(sizes.values())
    print(f"{total / MB:6.0f} MB kept of {tokens} tokens, {total / tokens / 1024:.0f} KB a token:")
    for key, size in sizes.most_common(20):
        print(f"{size / MB:8.1f} MB  {rows[key]:4} x {key[0]} {list(key[1])}")


def _tokens(trees: Sequence[object]) -> int:
    return sum(len(tree) for tree in trees)  # type: ignore[arg-type]


def resident() -> float:
    """Resident set of this process in MB now."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
