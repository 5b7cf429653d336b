"""Old weights, half-loaded ones and stale caches are told from the right ones."""

from __future__ import annotations

import pytest

from eto.engines.served import TOLERANCE, differs, unchanged
from eto.engines.server.replica import Served

EXPECTED = [-1.0, -2.0, -3.0, -0.5]


def served(*scores: float, written: float = -0.5) -> Served:
    return Served("http://here", (1, 2, 3, 4, 5), scores, written)


def test_the_same_weights_pass():
    assert differs(served(-1.001, -2.0, -2.999, -0.5), EXPECTED, "float32") is None


def test_other_weights_differ_on_average():
    """0.06 / 4 = 0.015, above 0.005 of float32 and below 0.1 of bfloat16."""
    other = served(-1.02, -2.02, -3.02, -0.5)
    assert "0.015 nats" in str(differs(other, EXPECTED, "float32"))
    assert differs(other, EXPECTED, "bfloat16") is None


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_a_stale_cache_shows_in_what_was_written_with_it(dtype):
    stale = served(*EXPECTED, written=-0.5 - 4 * TOLERANCE[dtype] - 0.001)
    assert "cached" in str(differs(stale, EXPECTED, dtype))
    assert differs(served(*EXPECTED, written=-0.5 - 3 * TOLERANCE[dtype]), EXPECTED, dtype) is None


def test_answers_that_stay_the_same_though_the_weights_do_not():
    """However near: in bfloat16 the tolerance would hide it."""
    before, after = served(-1.0, -2.0, -3.0, -0.5), served(-1.0, -2.0, -3.0, -0.9)
    assert unchanged(before, after, EXPECTED, [-1.0001, *EXPECTED[1:]])
    assert not unchanged(before, after, EXPECTED, EXPECTED), "the weights are the same"
    assert not unchanged(before, served(-1.0001, -2.0, -3.0, -0.5), EXPECTED, [-1.0001, *EXPECTED[1:]])
