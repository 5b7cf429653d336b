"""A directory below which nothing can be written, by root neither."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_VERSION = 0x20080522
_OVERRIDES = 0b11 << 1
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which let root write and read anywhere."""


@contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """For the time of the block this thread cannot write in `directory` or below it."""
    everything = [directory, *directory.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in everything}
    with _as_a_user():
        for path in reversed(everything):
            path.chmod(modes[path] & ~0o222)
        try:
            yield
        finally:
            for path in everything:
                path.chmod(modes[path])


@contextmanager
def _as_a_user() -> Iterator[None]:
    """Without root's right to write anywhere."""
    if os.geteuid():
        yield
        return
    if not hasattr(libc := ctypes.CDLL(None, use_errno=True), "capset"):
        pytest.skip("root may write anywhere here")
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc.capget(header, before)
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~_OVERRIDES
    if libc.capset(header, less):
        pytest.skip("root may write anywhere here")
    try:
        yield
    finally:
        libc.capset(header, before)
