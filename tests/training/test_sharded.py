"""Training in several processes against one: losses, gradients, weights and states."""

from __future__ import annotations

import os
import sys
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from test_backends import with_value_head
from test_loop import LORA, episodes, pairs

from eto.errors import EngineFailure, InputError, MissingRequirement
from eto.settings import DistributedSettings, DpoSettings, SftSettings
from eto.training.backends import sharded
from eto.training.backends.sharded_launch import Processes
from eto.training.backends.single import Single, plain_log_probs
from eto.training.cloning import _objective, cloning, sft_examples
from eto.training.learner import load_learner
from eto.training.preference import preference

CLONING = SftSettings(epochs=2, learning_rate=3e-3, batch_size=4, warmup_ratio=0.0)
PAIRED = DpoSettings(epochs=1, learning_rate=1e-3, batch_size=3, sft_weight=0.1)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# AdamW divides a gradient by its own size: where it is about 0, its last digits become a step.
STEPPED = {"rtol": 1e-5, "atol": 1e-4}
AS_CLOSE = 0.999  # of a matrix after such steps, within `CLOSE` all the same
BACKENDS = pytest.mark.parametrize("backend", ["ddp", "fsdp2"])


@pytest.fixture(scope="module")
def two():
    """Two processes that stand for the whole module: launching takes seconds of a core."""
    with Processes(DistributedSettings(processes=2)) as processes:
        yield processes


@pytest.fixture
def standing(two, monkeypatch):
    """Trainings take the processes of `two`, and leave them."""
    if not two.alive:
        pytest.skip("an earlier test lost the processes")
    monkeypatch.setattr(sharded, "Processes", lambda *_: two)
    monkeypatch.setattr(two, "end", lambda: None)


def learner_of(path, backend=None, **more):
    distribution = None if backend is None else DistributedSettings(processes=2, backend=backend)
    return load_learner(path, dtype="float32", drafting=False, distribution=distribution, **more)


def trained(fit):
    """The figures of all steps, without those of time."""
    return [{k: v for k, v in step.figures.items() if k != "tokens_per_second"} for step in fit]


def weights(learner):
    return {name: weight.detach().clone() for name, weight in learner.model.named_parameters()}


def check_close(found, expected, within=STEPPED):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **within)
        alike = torch.isclose(found[name], value, **CLOSE).sum().item()
        assert alike >= min(AS_CLOSE * value.numel(), value.numel() - 1), name


@BACKENDS
def test_steps_equal_those_of_one_process(tiny_path, standing, backend):
    """Steps of 4 episodes and of 1, which leaves a process without an example."""
    found = []
    for each in (None, backend):
        learner = learner_of(tiny_path, each)
        found.append((trained(cloning(learner, episodes(5), CLONING)), weights(learner)))
    (one, expected), (several, weights_found) = found
    assert len(one) == 4
    assert several == [pytest.approx(figures, rel=1e-5, abs=1e-5) for figures in one]
    check_close(weights_found, expected)


@BACKENDS
@pytest.mark.parametrize("lora", [None, LORA])
def test_preference_training_equals_that_of_one_process(tiny_path, standing, backend, lora):
    found = []
    for each in (None, backend):
        learner = learner_of(tiny_path, each, lora=lora)
        found.append((trained(preference(learner, pairs(5), PAIRED)), weights(learner)))
    (one, expected), (several, weights_found) = found
    assert several == [pytest.approx(figures, rel=1e-5, abs=1e-5) for figures in one]
    check_close(weights_found, expected)


@BACKENDS
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_of_many_passes(tiny_path, standing, backend, recompute):
    """Passes of one tree each, three on one process and two on the other."""
    learner = learner_of(tiny_path, backend)
    examples = sft_examples(learner, episodes(5))
    with sharded.Sharded(learner, CLONING, None) as several:
        several.begin(torch.float32, recompute_activations=recompute)
        figures = several.gradients(examples, _objective, 1)
        gradients = several.gathered_gradients()
    with Single(learner.model) as single:
        single.begin(torch.float32)
        assert figures == pytest.approx(single.gradients(examples, _objective, 1), rel=1e-5)
        check_close(gradients, {name: w.grad for name, w in learner.model.named_parameters()}, CLOSE)


def test_scores_of_divided_models(tiny_path, standing):
    """Two passes on one process and three on the other; the trees' order is kept."""
    learner = learner_of(tiny_path, "fsdp2")
    trees = [example.tree for example in sft_examples(learner, episodes(5))]
    expected = plain_log_probs(learner.model, trees, torch.float32, 200)
    for found, wanted in zip(learner.score(trees, 1), expected, strict=True):
        for leaf, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(leaf, other, **CLOSE)


def test_a_training_is_left_once(tiny_path, standing):
    fit = cloning(learner_of(tiny_path, "ddp"), episodes(5), CLONING)
    for _ in fit:
        break
    with pytest.raises(InputError, match="left before its end"):
        next(iter(fit))


def test_without_bitsandbytes(tiny_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for backend in (None, "ddp"):
        with pytest.raises(MissingRequirement, match="needs the package bitsandbytes") as caught:
            cloning(learner_of(tiny_path, backend), episodes(4), CLONING.replace(optimiser="adamw8bit"))
        assert "pip install" in caught.value.hint


def test_adamw_in_8_bits(tiny_path, standing):
    """With ddp as in one process, but for gradients whose rounding falls on another side of one of 256 steps.
    Runs where bitsandbytes is installed."""
    pytest.importorskip("bitsandbytes")
    settings, found = CLONING.replace(optimiser="adamw8bit"), []
    for each in (None, "ddp"):
        learner = learner_of(tiny_path, each)
        before = weights(learner)
        found.append((trained(cloning(learner, episodes(5), settings)), weights(learner)))
    (one, expected), (several, several_weights) = found
    assert several == [pytest.approx(figures, rel=2e-3) for figures in one]
    for name, value in expected.items():
        moved, apart = (value - before[name]).norm(), (value - several_weights[name]).norm()
        assert apart < 0.05 * moved, name


@BACKENDS
def test_a_value_head_that_the_loss_does_not_use(tiny_path, standing, backend):
    learner = with_value_head(learner_of(tiny_path, backend))
    fit = cloning(learner, episodes(4), CLONING)
    before = learner.model.value_head.weight.detach().clone()
    assert len(trained(fit)) == 2
    assert torch.equal(learner.model.value_head.weight, before)


ONE_WAY = [("ddp", "fsdp2"), ("fsdp2", "ddp"), ("fsdp2", None), (None, "fsdp2"), (None, "ddp"), ("ddp", None)]


@pytest.mark.parametrize(("first", "then"), ONE_WAY)
def test_a_state_is_resumed_by_any_number_of_processes(tiny_path, tmp_path, standing, first, then):
    learner = learner_of(tiny_path)
    cloning_of = partial(cloning, trajectories=episodes(5), settings=CLONING)
    undisturbed = trained(cloning_of(learner))
    started = cloning_of(learner_of(tiny_path, first), directory=tmp_path, checkpoint_seconds=-1.0)
    steps = iter(started)
    early = [next(steps), next(steps), next(steps)]
    steps.close()  # type: ignore[attr-defined]
    assert [each.step for each in early] == [1, 2, 3] and (tmp_path / "state" / "step.json").exists()
    resumed = learner_of(tiny_path, then)
    rest = trained(cloning_of(resumed, directory=tmp_path))
    assert rest == [pytest.approx(figures, rel=1e-5, abs=1e-5) for figures in undisturbed[2:]]
    check_close(weights(resumed), weights(learner))


def test_a_damaged_state_is_named(tiny_path, tmp_path, standing):
    settings = {"directory": tmp_path, "checkpoint_seconds": -1.0}
    trained(cloning(learner_of(tiny_path, "fsdp2"), episodes(5), CLONING, **settings))
    shard = next((tmp_path / "state" / "shards").glob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=r"the state of training cannot be read") as caught:
        cloning(learner_of(tiny_path), episodes(5), CLONING, **settings)
    assert caught.value.where == str(tmp_path / "state")


def test_bfloat16(tiny_path, standing):
    """Small steps move fp32 weights, computed with in bf16; most bf16 weights have no place for these."""
    small, name = CLONING.replace(learning_rate=1e-6, epochs=1), "model.layers.0.mlp.up_proj.weight"
    for kind, least, most in (("float32", 0.9, 1.0), ("bfloat16", 0.0, 0.1)):
        for backend in ("ddp", "fsdp2"):
            distribution = DistributedSettings(processes=2, backend=backend, weights=kind)
            learner = load_learner(tiny_path, dtype="bfloat16", distribution=distribution)
            before = weights(learner)[name].to(getattr(torch, kind)).float()
            assert all(step["loss"] > 0 for step in trained(cloning(learner, episodes(4), small)))
            after = weights(learner)[name]
            assert after.dtype == torch.float32
            assert least <= (after != before).float().mean() <= most, (kind, backend)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 1}, "2 processes, but steps of 1 examples"),
        ({"optimiser": "learned"}, "learned does not update weights that are divided"),
    ],
)
def test_settings_that_do_not_go_with_processes(tiny_path, changes, says):
    learner = learner_of(tiny_path, "fsdp2", lora=LORA)
    with pytest.raises(InputError, match=says):
        cloning(learner, episodes(4), CLONING.replace(**changes))


def test_a_loss_that_cannot_be_sent(tiny_path):
    learner = learner_of(tiny_path, "ddp")
    with pytest.raises(InputError, match="the loss cannot be sent to other processes"):
        learner.fit(sft_examples(learner, episodes(4)), lambda *_: None, CLONING)


# -- faults; these come last, for they lose the processes ----------------------------


def test_a_rank_that_is_killed(tiny_path, tmp_path):
    """Through an accelerate config. The state of the step before is there for a resumed call."""
    config = tmp_path / "accelerate.yaml"
    config.write_text("distributed_type: MULTI_CPU\nnum_processes: 2\nuse_cpu: true\n")
    distribution = DistributedSettings(backend="ddp", accelerate_config=str(config))
    learner = load_learner(tiny_path, dtype="float32", distribution=distribution)
    others = psutil.Process().children(recursive=True)
    fit = cloning(learner, episodes(5), CLONING, directory=tmp_path / "fit", checkpoint_seconds=-1.0)
    steps = iter(fit)
    next(steps), next(steps)
    below = [each for each in psutil.Process().children(recursive=True) if each not in others]
    ranks = [each for each in below if "torch.distributed.run" not in each.cmdline()]
    assert len(ranks) == 2
    ranks[1].kill()
    with pytest.raises(EngineFailure, match=r"one of the 2 processes of training was killed") as caught:
        next(steps)
    assert "resumes from the last checkpoint" in caught.value.hint
    assert not psutil.wait_procs(below, timeout=5)[1], "processes are left"
    assert (tmp_path / "fit" / "state" / "step.json").exists()
    assert torch.isfinite(weights(learner)["model.embed_tokens.weight"]).all()


def test_damaged_moments_are_named_by_the_rank_that_reads_them(tiny_path, tmp_path):
    """It is alone, launched by accelerate without torchrun; what a killed driver left is removed."""
    config, place = tmp_path / "accelerate.yaml", tmp_path / "fit"
    config.write_text("distributed_type: 'NO'\nnum_processes: 1\n")
    settings = {"directory": place, "checkpoint_seconds": -1.0}
    for _ in trained(cloning(learner_of(tiny_path), episodes(5), CLONING.replace(epochs=1), **settings)):
        pass
    (place / "state" / "moments.safetensors").write_bytes(b"damaged")
    (place / "weights-left").mkdir()
    distribution = DistributedSettings(backend="ddp", accelerate_config=str(config))
    learner = load_learner(tiny_path, dtype="float32", distribution=distribution)
    fit = cloning(learner, episodes(5), CLONING.replace(epochs=1), **settings)
    with pytest.raises(InputError, match="the state of training cannot be read") as caught:
        list(fit.epochs())
    assert caught.value.where == str(place / "state") and "delete this directory" in caught.value.hint
    assert not list(place.glob("weights-*"))


def _fails_on_one(example, outputs):
    if os.environ["RANK"] == "1":
        raise ValueError("this rank\nfails")
    return _objective(example, outputs)


def test_an_exception_in_a_rank(tiny_path, standing, two):
    learner = learner_of(tiny_path, "ddp")
    fit = learner.fit(sft_examples(learner, episodes(4)), _fails_on_one, CLONING)
    below = [
        each
        for each in psutil.Process().children(recursive=True)
        if "sharded_worker" in " ".join(each.cmdline())
    ]
    with pytest.raises(EngineFailure, match=r"process 1 of 2 failed: ValueError: this rank\n"):
        next(iter(fit))
    assert not two.alive and not psutil.wait_procs(below, timeout=5)[1]
