"""Memory that `eto run --plan` tells beside what a run takes: `python -m benchmarks.plan`.

Each case is a whole `eto run` of a small bandit recipe with the embedded model, in a process of its own:
cloning, a dev check, a test. Its peak is the largest resident set that the system noted of the process
(`wait4`); simulators are processes of their own and count on neither side. Two minutes a case or so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RECIPE = """
name: planned
model: {path: embedded}
environment: {name: bandit, options: {horizon: 40}}
tasks: {train_per_kind: 8, dev_per_kind: 1, test_per_kind: 6}
rollout: {max_action_tokens: 12, slots: 12}
method: {name: sft, sft: {epochs: 1, batch_tokens: 4000, learning_rate: 1e-4}}
"""
CASES = {
    "all weights": (),
    "all weights, fp32": ("model.dtype=float32",),
    "all weights, activations recomputed": ("model.activation_checkpointing=true",),
    "adapters of rank 16": ("model.lora={rank: 16}",),
    "adapters over bf16": ("model.dtype=bfloat16", "model.lora={rank: 16, frozen: bfloat16}"),
    "adapters over 4 bits": ("model.lora={rank: 16, frozen: nf4}",),
    "AdamW in 8 bits": ("method.sft.optimiser=adamw8bit",),
}
NEEDS = {"adapters over 4 bits": "bitsandbytes", "AdamW in 8 bits": "bitsandbytes"}
"""Packages that a case needs besides; without them it is left out."""
CLOSE = 0.2
"""Largest share by which a plan may differ."""


def planned(recipe: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """The plan of a run, as `--plan --json` prints it."""
    made = subprocess.run(
        [sys.executable, "-m", "eto", "run", str(recipe), *overrides, "--plan", "--json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return dict(json.loads(made.stdout))


def measured(recipe: Path, overrides: tuple[str, ...]) -> int:
    """Bytes of the largest resident set of a whole run."""
    run = subprocess.Popen(
        [sys.executable, "-m", "eto", "run", str(recipe), *overrides], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode:
        raise SystemExit(f"the run failed with exit code {run.returncode}")
    return usage.ru_maxrss * 1024  # Linux: kilobytes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    given = parser.parse_args()
    far = 0
    print("| case | planned GB | measured GB | planned / measured |\n|---|---|---|---|")
    for case in given.cases or CASES:
        if (package := NEEDS.get(case)) and find_spec(package) is None:
            print(f"| {case} | left out: {package} is not installed | | |", flush=True)
            continue
        with tempfile.TemporaryDirectory() as place:
            recipe = Path(place) / "planned.yaml"
            recipe.write_text(RECIPE, encoding="utf-8")
            overrides = (*CASES[case], f"run_directory={place}/run")
            plan, peak = planned(recipe, overrides), measured(recipe, overrides)
        ratio = plan["peak"] / peak
        far += abs(ratio - 1) > CLOSE
        print(f"| {case} | {plan['peak'] / 1e9:.2f} | {peak / 1e9:.2f} | {ratio:.2f} |", flush=True)
        told = {name: round(part["total"] / 1e9, 2) for name, part in plan["memory"].items()}
        print(f"  {told}", file=sys.stderr, flush=True)
    return int(far > 0)


if __name__ == "__main__":
    sys.exit(main())
