"""What a run shows of itself."""

from __future__ import annotations

from typing import Any

import pytest

from eto.experiment import watch


class Seen(watch.Silent):
    def __init__(self) -> None:
        self.updates: list[tuple[Any, ...]] = []

    def update(self, stage: str, done: int, total: int, **figures: Any) -> None:
        self.updates.append((stage, done, total))


@pytest.mark.parametrize(("begun", "expected"), [(-9.0, []), (-11.0, [("dpo-1 scoring", 3, 40)])])
def test_scoring_is_shown_where_it_takes_long(monkeypatch, begun, expected):
    seen = Seen()
    monkeypatch.setattr(watch.time, "monotonic", lambda: begun)
    show = watch.scoring(seen, "dpo-1")
    monkeypatch.setattr(watch.time, "monotonic", lambda: 0.0)
    show(3, 40)
    assert seen.updates == expected
