"""Lanes add up in one order, whichever is faster, and none waits for one that has failed."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from test_loop import episodes, policy

from eto.cpu.turns import Passes, Turn
from eto.errors import EngineFailure
from eto.losses.cloning import sft_loss
from eto.training.backends.core_groups import CoreGroupBackend
from eto.training.cloning import sft_examples


def gradients(learner, examples, sleeps) -> list[torch.Tensor]:
    """Of two lanes of several passes each; a pass of example `n` sleeps `sleeps[n]` seconds."""
    order = {id(example): number for number, example in enumerate(examples)}

    def slow(example, outputs):
        time.sleep(sleeps[order[id(example)]])
        return sft_loss(outputs[0].log_probs) * example.size, {}

    with CoreGroupBackend(learner.model) as backend:
        backend.begin(torch.float32)
        backend.gradients(examples, slow, 2)  # one tree a pass
        return [weight.grad.clone() for weight in learner.model.parameters()]


def test_sums_do_not_depend_on_who_is_faster(tiny_path, threads):
    threads(2)
    learner = policy(tiny_path)
    examples = sft_examples(learner, episodes(6))
    found = [
        gradients(learner, examples, sleeps)
        for sleeps in ([0.2, 0, 0, 0, 0, 0], [0, 0, 0, 0.2, 0, 0], [0, 0, 0.1, 0, 0.1, 0.2])
    ]
    assert max(float(gradient.abs().max()) for gradient in found[0]) > 1e-3
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert torch.equal(one, same)


def test_a_lane_that_fails_stops_nobody(tiny_path, threads):
    threads(2)
    learner = policy(tiny_path)
    examples = sft_examples(learner, episodes(6))

    def failing(example, outputs):
        loss = sft_loss(outputs[0].log_probs) * example.size
        return loss * float("nan") if example is examples[0] else loss, {}

    caught = []

    def work() -> None:
        with CoreGroupBackend(learner.model) as backend:
            backend.begin(torch.float32)
            try:
                backend.gradients(examples, failing, 2)
            except EngineFailure as error:
                caught.append(error)
            # The next step is a good one.
            backend.gradients(examples[1:], lambda e, o: (sft_loss(o[0].log_probs) * e.size, {}), 2)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "a lane still waits"
    assert caught


@pytest.mark.parametrize("unused", [False, True])
def test_turns_by_hand(unused):
    """Three passes of two lanes: 0 and 2 of the first one. Pass 1 does not add to the sum, or adds last."""
    passes = Passes(2)
    passes.begin([[5, 5], [6]])
    turn, added = Turn(passes), []

    def lane(number: int, wait: float) -> None:
        for _ in range(2 - number):
            time.sleep(wait)
            with passes.one_of(number) as at:
                if not (unused and at == 1):
                    with turn.of(at, last=True):
                        added.append(at)

    threads = [threading.Thread(target=lane, args=(n, w), daemon=True) for n, w in ((0, 0.0), (1, 0.2))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert added == ([0, 2] if unused else [0, 1, 2])


def test_passes_are_numbered_as_their_backward_halves_are_expected():
    passes = Passes(2)

    def numbers(*tokens: list[int]) -> list[list[int]]:
        passes.begin(tokens)
        found: list[list[int]] = [[], []]
        for lane, sizes in enumerate(tokens):
            for _ in sizes:
                with passes.one_of(lane) as number:
                    found[lane].append(number)
        return found

    assert numbers([5, 5], [5, 5]) == [[0, 2], [1, 3]]
    assert numbers([700, 400], [400, 700]) == [[1, 3], [0, 2]]
    assert numbers([900], [100, 100, 700]) == [[2], [0, 1, 3]]
    with passes.one_of(0) as number:
        assert number is None, "more than was announced"
