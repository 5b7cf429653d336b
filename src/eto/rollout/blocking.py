"""An asynchronous generator, iterated by callers that are not asynchronous."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
_END: Any = object()


def blocking(items: AsyncGenerator[Item]) -> Iterator[Item]:
    """`items`, in an event loop that stands still while the caller works on one.

    It runs in the caller's thread; where that runs an event loop itself, as a notebook's does, in
    another one. Closed, or left by an exception, it cancels what `items` has under way and waits for
    its end.
    """
    with _signals_held():
        loop = asyncio.new_event_loop()
    here = _iterated(items, loop)
    if not _runs_a_loop():
        yield from here
        return
    with ThreadPoolExecutor(1, "rollouts") as thread:
        try:
            while True:
                asked = thread.submit(next, here, _END)
                try:
                    item = asked.result()
                except BaseException:
                    if not asked.done():  # this thread was interrupted, not the other
                        loop.call_soon_threadsafe(_cancel_all, loop)
                    raise
                if item is _END:
                    return
                yield item
        finally:
            thread.submit(here.close).result()


def _iterated(items: AsyncGenerator[Item], loop: asyncio.AbstractEventLoop) -> Generator[Item, None, None]:
    try:
        while (item := loop.run_until_complete(_next(items))) is not _END:
            yield item
    finally:
        left = _cancel_all(loop)
        _pass_stop(loop)
        loop.run_until_complete(_ended(items, left))
        loop.close()


async def _next(items: AsyncGenerator[Item]) -> Item:
    return await anext(items, _END)


async def _ended(items: AsyncGenerator[Item], left: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*left, return_exceptions=True)
    await items.aclose()


def _pass_stop(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop turn once. A signal that came after an item was ready, and before the loop had seen that,
    leaves a callback in it that stops the next wait before its end."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    return tasks


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that Python handles come after the block: a loop that is half made cannot be closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in held:
            signal.signal(number, lambda sent, _: came.append(sent))
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for sent in came:
            signal.raise_signal(sent)


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
