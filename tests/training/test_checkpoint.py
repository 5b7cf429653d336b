"""The state of training on disk: a full disk, damage, and a state of another training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from test_loop import (
    EVERY_STEP,
    FAST,
    PAIRED,
    Interrupt,
    changed,
    episodes,
    interrupt,
    pairs,
    policy,
    weights,
)

from eto.errors import InputError, MissingRequirement
from eto.settings import GuardSettings, SftSettings
from eto.training.cloning import cloning, sft
from eto.training.learner import load_learner
from eto.training.preference import dpo

resource = pytest.importorskip("resource")


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Stands for a full disk; the system's errors differ by their number alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def clone(learner, directory):
    sft(learner, episodes(), FAST, directory=directory, **EVERY_STEP)


def prefer(learner, directory):
    dpo(learner, pairs(), PAIRED, directory=directory, **EVERY_STEP)


@pytest.mark.parametrize(
    ("train", "size", "where", "kept"),
    [
        (clone, 200_000, "state", []),
        (clone, 600_000, "state", []),
        (prefer, 300, "reference.npz", []),
        (prefer, 100_000, "state", ["reference.npz"]),
    ],
    ids=["weights", "moments", "reference", "after the reference"],
)
def test_a_full_disk_is_told_as_that(tiny_path, tmp_path, train, size, where, kept):
    learner = policy(tiny_path)
    with files_up_to(size), pytest.raises(MissingRequirement, match="no room left") as caught:
        train(learner, tmp_path / "run")
    assert caught.value.where == str(tmp_path / "run" / where)
    assert [path.name for path in (tmp_path / "run").iterdir()] == kept, "nothing half-written stays"


def test_why_the_guard_fired_is_told_to_be_unwritable(tiny_path, tmp_path):
    settings, guard = PAIRED.replace(epochs=20), GuardSettings(max_margin=0.01)
    prefer(policy(tiny_path), tmp_path)
    learner = policy(tiny_path)
    shutil.rmtree(tmp_path / "state")
    with files_up_to(5), pytest.raises(MissingRequirement, match="no room left"):
        dpo(learner, pairs(), settings, guard=guard, directory=tmp_path, checkpoint_seconds=1e9)


def test_the_state_before_a_full_disk_is_resumed(tiny_path, tmp_path):
    undisturbed = policy(tiny_path)
    sft(undisturbed, episodes(), FAST)
    with pytest.raises(Interrupt):
        interrupt(cloning(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP), 4)
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    assert set(before) == {"trained.safetensors", "moments.safetensors", "step.json"}
    (tmp_path / "state.new").mkdir()
    resumed = policy(tiny_path)
    sft(resumed, episodes(), FAST, directory=tmp_path, **EVERY_STEP)
    assert not changed(weights(undisturbed.model), weights(resumed.model))


@pytest.mark.parametrize(
    "other",
    [
        lambda path, directory: sft(policy(path), episodes(4), FAST, directory=directory, **EVERY_STEP),
        lambda path, directory: sft(
            policy(path), episodes(), FAST, seed=1, directory=directory, **EVERY_STEP
        ),
        lambda path, directory: sft(
            policy(path), episodes(), FAST.replace(epochs=5), directory=directory, **EVERY_STEP
        ),
        lambda path, directory: dpo(policy(path), pairs(), PAIRED, directory=directory, **EVERY_STEP),
    ],
    ids=["data", "seed", "epochs", "method"],
)
def test_a_state_of_another_training_is_refused(tiny_path, tmp_path, other):
    sft(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP)
    with pytest.raises(InputError, match="other data or with other settings"):
        other(tiny_path, tmp_path)


@pytest.mark.parametrize("settings", [PAIRED.replace(beta=0.2), PAIRED.replace(sft_weight=1.0)])
def test_a_preference_training_of_other_settings_is_refused(tiny_path, tmp_path, settings):
    dpo(policy(tiny_path), pairs(), PAIRED, directory=tmp_path, **EVERY_STEP)
    with pytest.raises(InputError, match="to train again"):
        dpo(policy(tiny_path), pairs(), settings, directory=tmp_path, **EVERY_STEP)
    with pytest.raises(InputError, match="are of other pairs"):
        dpo(policy(tiny_path), pairs()[:2], PAIRED, directory=tmp_path, **EVERY_STEP)


def test_what_decides_no_result_may_change(tiny_path, tmp_path):
    with pytest.raises(Interrupt):
        interrupt(cloning(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP), 4)
    free = {"checkpoint_seconds": 5.0, "activation_checkpointing": True, "directory": tmp_path}
    assert sft(policy(tiny_path), episodes(), FAST.replace(micro_batch_tokens=100), **free) == 12


@pytest.mark.parametrize("name", ["trained.safetensors", "moments.safetensors"])
@pytest.mark.parametrize("left", [0, 100, -10])
def test_a_damaged_state_is_told(tiny_path, tmp_path, name, left):
    with pytest.raises(Interrupt):
        interrupt(cloning(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP), 4)
    file = tmp_path / "state" / name
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(InputError, match="cannot be read") as caught:
        sft(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP)
    assert caught.value.where == str(tmp_path / "state") and "delete" in caught.value.hint


def test_a_trial_save_on_a_full_disk_is_told(tiny_path):
    with files_up_to(5), pytest.raises(MissingRequirement, match="no room left"):
        policy(tiny_path)


def test_a_state_of_adamw_in_8_bits(tiny_path, tmp_path):
    """Resumed after two of four steps it ends as undisturbed. Runs where bitsandbytes is installed."""
    pytest.importorskip("bitsandbytes")
    settings = SftSettings(epochs=2, batch_size=3, learning_rate=3e-3, optimiser="adamw8bit")
    ends = []
    for stop in (None, 2, None):
        learner = load_learner(tiny_path, dtype="float32")
        place = tmp_path if stop or ends else None
        fit = cloning(learner, episodes(5), settings, directory=place, checkpoint_seconds=-1.0)
        for step in fit:
            if stop and step.step > stop:
                break
        ends.append(step.figures["loss"])
    assert fit.step == 4 and ends[2] == ends[0]
