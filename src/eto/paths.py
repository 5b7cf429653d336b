"""Where files outside a run directory live."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """The user's cache for converted models and the like; not created here.

    `$ETO_CACHE`, else `$XDG_CACHE_HOME/eto`, else `~/.cache/eto`.
    """
    if own := os.environ.get("ETO_CACHE"):
        return Path(own).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "eto"
    return Path.home() / ".cache" / "eto"
