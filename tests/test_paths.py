"""Where the cache is."""

from __future__ import annotations

from pathlib import Path

from eto.paths import cache_dir


def test_the_more_specific_setting_wins(monkeypatch):
    monkeypatch.setenv("ETO_CACHE", "/a/b")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_dir() == Path("/a/b")
    monkeypatch.delenv("ETO_CACHE")
    assert cache_dir() == Path("/c/eto")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/d")
    assert cache_dir() == Path("/d/.cache/eto")
