"""An asynchronous generator iterated by plain code, and signals in the middle of it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator

import pytest

from eto.rollout.blocking import blocking


async def interrupted(ended: list[str], *, others: int) -> AsyncGenerator[int]:
    """Yields while other tasks wait; a signal comes when the first item is ready and not yet handed out."""

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # as a simulator that is asked to close
            ended.append("task")

    def interrupt() -> None:
        raise KeyboardInterrupt

    tasks = [asyncio.ensure_future(waits()) for _ in range(others)]
    await asyncio.sleep(0)
    try:
        asyncio.get_running_loop().call_soon(interrupt)
        yield 1
        yield 2
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)
        ended.append("generator")


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_signal_beside_a_ready_item_ends_all_in_order(others: int) -> None:
    ended: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        list(blocking(interrupted(ended, others=others)))
    assert ended == ["task"] * others + ["generator"]


def test_items_come_in_order_and_leaving_early_closes() -> None:
    ended: list[str] = []

    async def counting() -> AsyncGenerator[int]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield number
        finally:
            ended.append("generator")

    assert list(blocking(counting())) == [0, 1, 2] and ended == ["generator"]
    items = blocking(counting())
    assert next(items) == 0
    items.close()
    assert ended == ["generator"] * 2


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_while_the_loop_is_made_comes_once_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    making = asyncio.SelectorEventLoop.__init__

    def slowly(self: asyncio.SelectorEventLoop, *arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)
        making(self, *arguments)  # type: ignore[arg-type]

    async def nothing() -> AsyncGenerator[int]:
        yield 1

    monkeypatch.setattr(asyncio.SelectorEventLoop, "__init__", slowly)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # others may have left another one
    try:
        with pytest.raises(KeyboardInterrupt):
            list(blocking(nothing()))
        gc.collect()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
