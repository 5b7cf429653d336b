"""Preference training against a reference that is not the learner it begins with."""

from __future__ import annotations

import pytest
from test_loop import PAIRED, episodes, pairs, policy, rows

from eto.settings import SftSettings
from eto.training.cloning import sft
from eto.training.preference import keep_reference, preference


def test_margins_are_taken_against_the_kept_reference(tiny_path, tmp_path):
    base, later = policy(tiny_path), policy(tiny_path)
    sft(later, episodes(), SftSettings(epochs=2, learning_rate=3e-3, batch_size=2))
    keep_reference(base, pairs(), PAIRED, directory=tmp_path)
    [first, *_] = rows(preference(later, pairs(), PAIRED, directory=tmp_path))
    assert first["chosen_drift"] > 1.0, "cloned since, its actions are likelier than the reference has them"
    [own, *_] = rows(preference(policy(tiny_path), pairs(), PAIRED))
    assert own["chosen_drift"] == pytest.approx(0.0, abs=1e-4)
