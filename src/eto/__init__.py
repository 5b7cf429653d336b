"""ETO: train language-model agents by trial and error (arXiv 2403.02502).

The names below are the public interface; each is loaded on first use. docs/python.md writes the
whole loop with ten of them.
"""

from __future__ import annotations

import warnings

from lazy_loader import attach_stub

from eto.runtime import configure_threads

__version__ = "0.1.0"

# Before torch is loaded: spinning OpenMP threads slow decoding many times next to a busy simulator.
if warning := configure_threads():
    warnings.warn(warning, RuntimeWarning, stacklevel=2)
del warning, warnings

# The public names stand in `__init__.pyi`, where type checkers find them too.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
