"""Lanes take turns: each adds its passes' gradients to one sum in one order, whoever is there first.

The passes of an optimiser step are numbered in the order in which their backward halves are expected, by
their tokens. A pass adds to a weight's sum once all passes before it have added to that one, or have ended.
Lanes that go as fast as expected hardly wait; sums do not depend on how fast they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Passes:
    """The passes of the lanes in one optimiser step."""

    def __init__(self, lanes: int) -> None:
        self.changed = threading.Condition()
        self._next: list[list[int]] = [[] for _ in range(lanes)]
        self._ended: set[int] = set()
        self.step = 0
        """Counts the steps begun."""
        self.broken = False
        """A lane has failed: the others need not wait, their sums are thrown away."""

    def begin(self, tokens: Sequence[Sequence[int]]) -> None:
        """Number the passes of a step: of each lane the tokens of each of its passes."""
        expected: list[tuple[float, int]] = []
        for lane, sizes in enumerate(tokens):
            before = 0
            for size in sizes:
                # The middle of the backward half, which takes twice as long as the forward half.
                expected.append((before + size * 2 / 3, lane))
                before += size
        self._next = [[] for _ in self._next]
        for number, (_, lane) in enumerate(sorted(expected)):
            self._next[lane].append(number)
        self._ended.clear()
        self.step += 1
        self.broken = False

    @contextmanager
    def one_of(self, lane: int) -> Iterator[int | None]:
        """The lane's next pass: its number, None for one that was not announced and waits for nobody."""
        number = self._next[lane].pop(0) if self._next[lane] else None
        try:
            yield number
        except BaseException:
            self.broken = True
            raise
        finally:
            with self.changed:
                if number is not None:
                    self._ended.add(number)
                self.changed.notify_all()

    def ended(self, number: int) -> bool:
        return number in self._ended


class Turn:
    """Whose turn it is to add to one sum."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._step = 0
        self._number = 0
        """The pass that may add; all before it are done with this sum."""

    @contextmanager
    def of(self, number: int | None, *, last: bool) -> Iterator[None]:
        """Wait until pass `number` may add; `last`: it will not again."""
        if number is None:
            yield
            return
        passes = self._passes
        with passes.changed:
            passes.changed.wait_for(lambda: passes.broken or self._reached(number))
        yield
        if last:
            with passes.changed:
                self._number = number + 1
                passes.changed.notify_all()

    def _reached(self, number: int) -> bool:
        if self._step != self._passes.step:
            self._step, self._number = self._passes.step, 0
        while self._number < number and self._passes.ended(self._number):
            self._number += 1
        return self._number >= number
