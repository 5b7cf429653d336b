"""What needs GPUs; run by `make test-gpu`. Not run by the authors: none was at hand."""

from __future__ import annotations

import pytest
import torch
from test_loop import LORA, episodes, pairs

from eto.settings import DistributedSettings, DpoSettings, SftSettings
from eto.training.cloning import cloning
from eto.training.learner import load_learner
from eto.training.preference import preference

CLONING = SftSettings(epochs=2, learning_rate=3e-3, batch_size=4, warmup_ratio=0.0)
PAIRED = DpoSettings(epochs=1, learning_rate=1e-3, batch_size=3)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def figures(fit):
    return [(step.figures["loss"], step.figures["grad_norm"]) for step in fit]


def test_one_gpu_equals_the_cpu(tiny_path):
    """FlexAttention, compiled, against the CPU's passes."""
    found = [
        figures(cloning(load_learner(tiny_path, dtype="float32", device=device), episodes(5), CLONING))
        for device in ("cuda", "cpu")
    ]
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("kind", ["bfloat16", "nf4"])
def test_adapters_over_narrow_frozen_weights(tiny_path, kind):
    """Trained in bf16, as on a CPU; merged they compute what was trained."""
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    found = []
    for device in ("cuda", "cpu"):
        lora = {**LORA, "frozen": kind}
        learner = load_learner(tiny_path, dtype="bfloat16", device=device, lora=lora)
        found.append(figures(cloning(learner, episodes(5), CLONING)))
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=5e-2)


@pytest.mark.parametrize("optimiser", ["adamw", "adamw8bit"])
def test_optimisers_of_a_gpu(tiny_path, optimiser):
    if optimiser == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    learner = load_learner(tiny_path, dtype="float32", device="cuda")
    steps = figures(cloning(learner, episodes(5), CLONING.replace(optimiser=optimiser)))
    assert steps[-1][0] < steps[0][0]


@two_gpus
@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize(
    "more", [{"backend": "ddp"}, {"backend": "fsdp2"}, {"backend": "fsdp2", "offload": True}]
)
def test_two_gpus_equal_one(tiny_path, more, lora):
    found = []
    for distribution in (None, DistributedSettings(processes=2, **more)):
        learner = load_learner(tiny_path, dtype="float32", lora=lora, distribution=distribution)
        found.append(figures(preference(learner, pairs(5), PAIRED)))
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)


@two_gpus
@pytest.mark.parametrize("backend", ["ddp", "fsdp2"])
def test_a_state_of_two_gpus_is_resumed_by_one(tiny_path, tmp_path, backend):
    steps = {}
    distribution = DistributedSettings(processes=2, backend=backend)
    for name, how in (("undisturbed", None), ("early", distribution), ("rest", None)):
        learner = load_learner(tiny_path, dtype="float32", distribution=how)
        place = None if name == "undisturbed" else tmp_path
        fit = cloning(learner, episodes(5), CLONING, directory=place, checkpoint_seconds=-1.0)
        walk = iter(fit)
        steps[name] = [next(walk).figures["loss"] for _ in range(3)] if name == "early" else figures(walk)
        walk.close()  # type: ignore[attr-defined]
    for one, other in zip(steps["rest"], steps["undisturbed"][2:], strict=True):
        assert one == pytest.approx(other, rel=1e-3)
